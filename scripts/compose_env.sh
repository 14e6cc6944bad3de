#!/usr/bin/env bash
# Write var/compose.env: the passwords and the API token of compose.yaml, random, for your eyes only.
#   scripts/compose_env.sh            make it; one that is there is left alone
#   scripts/compose_env.sh --dry-run  say what would be written, without a value
# Then: docker compose --env-file var/compose.env up --detach --build
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,5s/^# \{0,1\}//p' "$0"; }
die() { printf 'compose_env: %s\n' "$1" >&2; exit 2; }

dry=
for word in "$@"; do
  case $word in
  --dry-run) dry=yes ;;
  -h | --help) usage; exit 0 ;;
  *) die "knows no $word; see --help" ;;
  esac
done

file=var/compose.env
names=(API_TOKEN POSTGRES_PASSWORD REDIS_PASSWORD RAY_AUTH_TOKEN GRAFANA_PASSWORD)
if [ -e "$file" ]; then printf '%s is there, left alone\n' "$file"; exit 0; fi
if [ -n "$dry" ]; then printf 'would write %s with %s\n' "$file" "${names[*]}"; exit 0; fi
mkdir -p var
umask 077
for name in "${names[@]}"; do
  printf '%s=%s\n' "$name" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
done >"$file.tmp"
mv "$file.tmp" "$file"
printf 'wrote %s; the API token is its first line\n' "$file"
