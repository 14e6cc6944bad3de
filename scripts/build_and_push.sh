#!/usr/bin/env bash
# Build the two images and take them to where the cluster finds them.
#   scripts/build_and_push.sh --registry registry.example:5000 [--tag 0.1.0]   build and push
#   scripts/build_and_push.sh --k3s                build and import into the k3s of this machine
#   --tag TAG         default: the version in pyproject.toml
#   --torch cuda      with CUDA; default cpu
#   --models FOLDER   promoted models that travel in the image, as /opt/models
#   --dry-run         print the commands
# The images are NAME:TAG with NAME = [REGISTRY/]conclave-infer and [REGISTRY/]conclave-train.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; }
die() { printf 'build_and_push: %s\n' "$1" >&2; exit 2; }

registry='' tag='' torch=cpu models='' k3s='' dry=''
value() { case ${2:-} in '' | --*) die "$1 needs a value" ;; *) printf '%s' "$2" ;; esac; }
while [ $# -gt 0 ]; do
  case $1 in
  --registry) registry=$(value "$@"); shift ;;
  --tag) tag=$(value "$@"); shift ;;
  --torch) torch=$(value "$@"); shift ;;
  --models) models=$(value "$@"); shift ;;
  --k3s) k3s=yes ;;
  --dry-run) dry=yes ;;
  -h | --help) usage; exit 0 ;;
  *) die "knows no $1; see --help" ;;
  esac
  shift
done
[ -n "$registry$k3s" ] || die "needs --registry HOST, or --k3s; see --help"
case $torch in cpu | cuda) ;; *) die "--torch is cpu or cuda, not $torch" ;; esac
[ -z "$models" ] || [ -d "$models" ] || die "--models: there is no folder $models"
[ -n "$tag" ] || tag=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ "$commit" = unknown ] || git diff --quiet HEAD -- || commit="$commit-dirty"
run() { if [ -n "$dry" ]; then printf '+ %s\n' "$*"; else "$@"; fi; }
[ -n "$dry" ] || command -v docker >/dev/null || die "needs docker with BuildKit"

for kind in infer train; do
  name=${registry:+$registry/}conclave-$kind:$tag
  extra=()
  if [ "$kind" = infer ] && [ -n "$models" ]; then extra=(--build-context "models=$models"); fi
  run docker build --file "docker/Dockerfile.$kind" --build-arg "TORCH=$torch" \
    --build-arg "GIT_COMMIT=$commit" "${extra[@]}" --tag "$name" .
  if [ -n "$registry" ]; then run docker push "$name"; fi
  if [ -n "$k3s" ]; then
    archive=${TMPDIR:-/tmp}/conclave-$kind-$tag.tar
    run docker save --output "$archive" "$name"
    run sudo k3s ctr images import "$archive"
    run rm -f "$archive"
  fi
done
printf 'next: scripts/k8s_apply_all.sh --overlay k3s-single%s --tag %s\n' \
  "${registry:+ --registry $registry}" "$tag"
