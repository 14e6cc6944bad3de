#!/bin/sh
# Make .venv ready: one clear line per problem, nothing to do when it is up to date.
# Usage: scripts/setup.sh [runtime|dev|rl]     PYTHON=python3.12 and PIP_ARGS="…" are passed on.
set -eu
cd "$(dirname "$0")/.."
extra=${1:-runtime}
venv=.venv
stamp=$venv/.ready-$extra

say() { printf '%s\n' "$*" >&2; }
die() { say "set-up: $*"; exit 2; }

# A Python of a version that the packages exist for.
fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

case $extra in runtime | dev | rl) ;; *) die "knows runtime, dev and rl, not $extra" ;; esac

fresh() { [ -f "$stamp" ] && [ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt constraints.txt ]; }
if fresh && "$venv/bin/python" -c '' 2>/dev/null; then exit 0; fi

python=${PYTHON:-}
if [ -z "$python" ]; then
  for name in python3.13 python3.12 python3.11 python3 python; do
    if fits "$name"; then python=$name; break; fi
  done
  [ -n "$python" ] || die "needs Python 3.11, 3.12 or 3.13 and found none. Install one, or point to it: make PYTHON=/path/to/python3.12 …"
fi
if ! fits "$python"; then
  found=$("$python" --version 2>/dev/null | head -n 1) || found=
  die "needs Python 3.11, 3.12 or 3.13; $python ${found:+is }${found:-does not run}. Point to one: make PYTHON=/path/to/python3.12 …"
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  die "$python has no venv module. On Debian or Ubuntu: apt install python3-venv"

[ -w . ] || die "cannot write to $(pwd). Copy the project to a folder you own."
free_mb=$(df -Pm . | awk 'NR==2 {print $4}')
[ "$free_mb" -ge 4500 ] || die "needs 4.5 GB of free disk here and has $free_mb MB. Free some and run it again."

if ! fits "$venv/bin/python"; then
  say "set-up: making $venv with $("$python" --version)"
  rm -rf "$venv"
  "$python" -m venv "$venv" || die "could not make $venv (see above)"
fi
# PyTorch's own index has a build for the CPU (0.7 GB installed); the plain index may have a CUDA
# build only (about 5 GB), which works as well.
torch=$(sed -n 's/^torch==//p' constraints.txt)
has_torch() { "$venv/bin/python" -c "from importlib.metadata import version as v; import sys; sys.exit(v('torch').split('+')[0] != '$torch')" 2>/dev/null; }
if ! has_torch && ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
  --no-deps --timeout 8 --retries 0 --index-url https://download.pytorch.org/whl/cpu \
  "torch==$torch" >/dev/null 2>&1; then
  say "set-up: PyTorch's CPU index does not answer, so torch comes from the plain index"
fi
target=.
[ "$extra" = runtime ] || target=".[$extra]"
say "set-up: installing pinned packages (about 2.5 GB, once; a few minutes)"
# shellcheck disable=SC2086 # PIP_ARGS is a list of words
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile ${PIP_ARGS:-} \
  -c constraints.txt -e "$target" ||
  die "pip could not install the packages (see above). Behind a mirror or proxy: make PIP_ARGS='--index-url …' …"
# Compiled here by all cores, since pip would use one; what cannot be compiled is not ours to mend.
"$venv/bin/python" -m compileall -q -j 0 "$venv/lib" >/dev/null 2>&1 || true
touch "$stamp"
