#!/usr/bin/env bash
# The engine beside RocksDB, fjall, redb and LMDB: measures, and writes the tables and plots of docs/benchmarks.md.
# bench/engines.sh DIR [SCALE] [RUNS] [MORE OF `engines run` ...]     needs: fio, root (a memory limit), clang, libclang
# Scale 1 takes hours and 40 GB below DIR; 0.01 takes minutes and says only whether everything works:
# bench/engines.sh DIR 0.01 1. Documents are changed at scale 1 only; otherwise the tables are printed.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath -m "${1:?usage: bench/engines.sh DIR [SCALE] [RUNS] [--only WORKLOADS] [--engines ENGINES]}")
scale=${2:-1} runs=${3:-3}
shift "$(($# < 3 ? $# : 3))"
cargo build --quiet --release --manifest-path bench/engines/Cargo.toml --target-dir target
engines=target/release/engines
mkdir -p "$dir"
rm -f "$dir/results.jsonl"
"$engines" run --dir "$dir/stores" --out "$dir/results.jsonl" --scale "$scale" --runs "$runs" "$@"
rm -rf "$dir/stores"
if [ "$scale" = 1 ]; then
    "$engines" report "$dir/results.jsonl" --into docs/benchmarks.md --plots docs/plots
else
    "$engines" report "$dir/results.jsonl" --plots "$dir/plots"
fi
