#!/usr/bin/env bash
# Make this checkout ready to run: .venv with the pinned packages, folders, .env.
#   scripts/bootstrap_local.sh            what running needs
#   scripts/bootstrap_local.sh --dev      what testing needs as well
#   scripts/bootstrap_local.sh --dry-run  say what it would do
# PYTHON and PIP_ARGS are passed on to scripts/setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,6s/^# \{0,1\}//p' "$0"; }
die() { printf 'bootstrap_local: %s\n' "$1" >&2; exit 2; }

extra=runtime dry=
for word in "$@"; do
  case $word in
  --dev) extra=dev ;;
  --dry-run) dry=yes ;;
  -h | --help) usage; exit 0 ;;
  *) die "knows no $word; see --help" ;;
  esac
done

run() { if [ -n "$dry" ]; then printf '+ %s\n' "$*"; else "$@"; fi; }

run sh scripts/setup.sh "$extra"
[ -e .env ] || run install -m 600 .env.example .env
run mkdir -p var/data/01_raw var/data/04_processed var/models var/logs
run .venv/bin/conclave doctor || [ $? -eq 1 ] # what it found stands above; nothing is undone
printf 'next: .venv/bin/conclave up   or   scripts/run_pipeline_local.sh --help\n'
