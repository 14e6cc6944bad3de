#!/usr/bin/env bash
# The whole pipeline on this machine: bars in, features, three models, a decision.
#   scripts/run_pipeline_local.sh --data BTCUSDT-binance-spot-5m-2025.parquet
#   scripts/run_pipeline_local.sh                   with bars fetched from EXCHANGE
#   scripts/run_pipeline_local.sh --demo            with bars of the simulated market, in a folder of
#                                                   its own, VAR_DIR/demo-pipeline
#   --days N               that are fetched, or simulated; default 120
#   --model baseline|tft   kind of model, default baseline
#   --symbol BTC/USDT      default BTC/USDT; the timeframe is the setting's
#   --end DATE             train on bars that open before it; default: on all of them
#   --promote              put the new models into use; without, those in use before decide
#   --dry-run              print the commands
# Settings (VAR_DIR, MODELS_DIR, …) come from the environment and .env as always.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; }
die() { printf 'run_pipeline_local: %s\n' "$1" >&2; exit 2; }

data='' demo='' days=120 model=baseline symbol=BTC/USDT end=2100-01-01 promote='' dry=''
value() { case ${2:-} in '' | --*) die "$1 needs a value" ;; *) printf '%s' "$2" ;; esac; }
while [ $# -gt 0 ]; do
  case $1 in
  --data) data=$(value "$@"); shift ;;
  --demo) demo=yes ;;
  --days) days=$(value "$@"); shift ;;
  --model) model=$(value "$@"); shift ;;
  --symbol) symbol=$(value "$@"); shift ;;
  --end) end=$(value "$@"); shift ;;
  --promote) promote=yes ;;
  --dry-run) dry=yes ;;
  -h | --help) usage; exit 0 ;;
  *) die "knows no $1; see --help" ;;
  esac
  shift
done
case $model in baseline | tft) ;; *) die "--model is baseline or tft, not $model" ;; esac
[ -z "$data" ] || [ -z "$demo" ] || die "takes --data or --demo, not both"
[ -z "$data" ] || [ -e "$data" ] || [ -n "$dry" ] || die "--data: there is no file $data"

conclave=${CONCLAVE:-.venv/bin/conclave}
python=$(dirname "$conclave")/python
[ -n "$dry" ] || [ -x "$conclave" ] || die "finds no $conclave: run scripts/bootstrap_local.sh first"

TIMEFORMAT='   took %0R s'
step() {
  printf '== %s\n' "$1"
  shift
  if [ -n "$dry" ]; then printf '+ %s\n' "$*"; else time "$@"; fi
}

if [ -n "$demo" ]; then
  # apart from the bars of a real market, which they would contradict
  export VAR_DIR="${VAR_DIR:-./var}/demo-pipeline"
  data=$VAR_DIR/BTCUSDT-demo-spot-5m.parquet
  step "bars: the simulated market" "$python" scripts/demo_bars.py "$data" --days "$days"
fi
wanted='TIMEFRAME BARS'
[ -n "$dry" ] || wanted=$("$python" -c '
import sys
from domain.times import DAY_MS, timeframe_ms
from serving.commands.common import settings_from
timeframe = settings_from(None, None, None).data.timeframe
print(timeframe, int(sys.argv[1]) * DAY_MS // timeframe_ms(timeframe))' "$days")
timeframe=${wanted% *}
if [ -n "$data" ]; then
  step "import" "$conclave" data import "$data"
else
  step "fetch" "$conclave" data fetch --symbol "$symbol" --timeframe "$timeframe" --bars "${wanted#* }"
fi
step "features" "$conclave" data features "$symbol" --timeframe "$timeframe"
# Where the cleansed bars of the symbol lie; .env may have a say in it.
bars='BARS'
[ -n "$dry" ] || bars=$("$python" -c '
import sys
from data.store import BarStore
from serving.commands.common import settings_from
data = settings_from(None, None, None).data
store = BarStore(data.var_dir / "data", data.raw_dir, data.processed_dir)
print(store.bars_path(sys.argv[1], data.timeframe))' "$symbol")
for target in trend return risk; do
  step "train $target" "$conclave" train "$target" --model "$model" --data "$bars" --end "$end"
done
if [ -n "$promote" ]; then
  for target in trend return risk; do
    step "promote $model/$target" "$conclave" models promote "$model/$target"
  done
fi
step "run-inference" "$conclave" run-inference
