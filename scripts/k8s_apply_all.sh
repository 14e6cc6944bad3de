#!/usr/bin/env bash
# Apply everything in its order: namespace, missing Secrets, the overlay, monitoring; then wait.
#   scripts/k8s_apply_all.sh --overlay k3s-single|k3s-multi|k3s-store [--registry HOST] [--tag TAG]
#   --dry-run   change nothing: print what would be applied, with the names of the Secrets only
#   --no-wait   do not wait until everything is ready
# Secrets that exist are left alone. Missing ones are made with random values; TELEGRAM_BOT_TOKEN
# and TELEGRAM_CHAT_ID are taken from the environment, if set. KUBECTL names another kubectl.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,7s/^# \{0,1\}//p' "$0"; }
die() { printf 'k8s_apply_all: %s\n' "$1" >&2; exit 2; }

overlay='' registry='' tag='' dry='' wait=yes
read -ra kubectl <<<"${KUBECTL:-kubectl}"
value() { case ${2:-} in '' | --*) die "$1 needs a value" ;; *) printf '%s' "$2" ;; esac; }
while [ $# -gt 0 ]; do
  case $1 in
  --overlay) overlay=$(value "$@"); shift ;;
  --registry) registry=$(value "$@"); shift ;;
  --tag) tag=$(value "$@"); shift ;;
  --dry-run) dry=yes ;;
  --no-wait) wait='' ;;
  -h | --help) usage; exit 0 ;;
  *) die "knows no $1; see --help" ;;
  esac
  shift
done
[ -n "$overlay" ] || die "needs --overlay; there are: $(cd k8s/overlays && echo *)"
[ -d "k8s/overlays/$overlay" ] || die "knows no overlay $overlay; there are: $(cd k8s/overlays && echo *)"
[ -n "$tag" ] || tag=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
command -v "${kubectl[0]}" >/dev/null || die "needs kubectl; k3s brings one: KUBECTL='sudo k3s kubectl'"

# The overlay with the images where they were pushed to.
rendered() {
  "${kubectl[@]}" kustomize "k8s/overlays/$overlay" |
    sed -E "s#image: (conclave-(infer|train)):.*#image: ${registry:+$registry/}\1:$tag#"
}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
declare -A made=()
for name in API_TOKEN POSTGRES_PASSWORD REDIS_PASSWORD RAY_AUTH_TOKEN; do made[$name]=$(random); done

shopt -u patsub_replacement 2>/dev/null || true # an & in a value is an &

# A template with its ${NAMES} filled in; values never appear among a program's arguments.
filled() {
  local text name
  text=$(cat "$1")
  for name in "${!made[@]}"; do text=${text//\$\{$name\}/${made[$name]}}; done
  text=${text//\$\{TELEGRAM_BOT_TOKEN\}/\"${TELEGRAM_BOT_TOKEN:-}\"}
  text=${text//\$\{TELEGRAM_CHAT_ID\}/\"${TELEGRAM_CHAT_ID:-}\"}
  printf '%s\n' "$text"
}

secrets() {
  local file name
  for file in k8s/secrets/*.yaml; do
    name=$(sed -n 's/^  name: //p' "$file")
    if [ "$name" = conclave-telegram ] && [ -z "${TELEGRAM_BOT_TOKEN:-}" ]; then
      printf 'secret %s: left out, TELEGRAM_BOT_TOKEN is not set\n' "$name"
    elif [ -n "$dry" ]; then
      printf 'secret %s: would be made if it is missing\n' "$name"
    elif "${kubectl[@]}" -n ml get secret "$name" >/dev/null 2>&1; then
      printf 'secret %s: is there, left alone\n' "$name"
    else
      filled "$file" | "${kubectl[@]}" create -f - >/dev/null
      printf 'secret %s: made\n' "$name"
    fi
  done
}

# The alerts that Prometheus gets in compose.yaml, as an object of its operator.
rules() {
  printf 'apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n'
  printf 'metadata:\n  name: conclave\n  namespace: ml\nspec:\n'
  sed 's/^/  /' configs/prometheus-rules.yml
}

has_crd() { "${kubectl[@]}" get crd "$1" >/dev/null 2>&1; }

if [ -n "$dry" ]; then
  secrets
  rendered
  echo ---
  "${kubectl[@]}" kustomize k8s/monitoring
  echo ---
  rules
  exit 0
fi

has_crd rayservices.ray.io || die "finds no KubeRay operator: docs/deployment.md says how to install it"
[ -n "$("${kubectl[@]}" get nodes -l role=ml -o name)" ] ||
  die "finds no node for training: kubectl label node NAME role=ml"
"${kubectl[@]}" apply -f k8s/base/namespace.yaml
secrets
rendered | "${kubectl[@]}" apply --server-side --force-conflicts -f -
if has_crd podmonitors.monitoring.coreos.com; then
  "${kubectl[@]}" apply -k k8s/monitoring
  rules | "${kubectl[@]}" apply -f -
else
  printf 'monitoring: left out, the Prometheus operator is not installed\n'
fi
[ -n "$wait" ] || exit 0
"${kubectl[@]}" -n ml rollout status statefulset/conclave-postgres --timeout=300s
"${kubectl[@]}" -n ml rollout status statefulset/conclave-redis --timeout=300s
"${kubectl[@]}" -n ml wait rayservice/conclave --for=condition=Ready --timeout=1200s
"${kubectl[@]}" -n ml rollout status deployment/conclave-desk --timeout=1800s
