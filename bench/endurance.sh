#!/usr/bin/env bash
# Endless overwriting, and then a queue whose keys never repeat, on the release binary: fails if disk use, memory or open files
# grow. Samples, the table and a plot go to DIR; the store is below it meanwhile.
# bench/endurance.sh DIR [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath -m "${1:?usage: bench/endurance.sh DIR [SECONDS]}") seconds=${2:-600}
mkdir -p "$dir"
rm -rf "$dir/store" "$dir/endurance.jsonl"
cargo build --quiet --release --manifest-path bench/engines/Cargo.toml --no-default-features --target-dir target
status=0
ESKER_ENDURANCE_SECONDS=$seconds ESKER_ENDURANCE_DIR=$dir/store ESKER_ENDURANCE_OUT=$dir/endurance.jsonl \
    cargo test --quiet --release -p esker --test measured nothing_grows -- --nocapture | tee "$dir/endurance.txt" || status=1
rm -rf "$dir/store"
[ ! -s "$dir/endurance.jsonl" ] || target/release/engines endurance "$dir/endurance.jsonl" "$dir/endurance.svg"
exit $status
