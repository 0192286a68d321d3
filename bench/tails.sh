#!/usr/bin/env bash
# Tails of reads and synced writes at a fixed rate while Esker merges, beside the same load without merges.
# bench/tails.sh DIR [SECONDS] [RUNS] [MORE OF `engines tails` ...]
# With the defaults, 60 s and 3 runs, docs/benchmarks.md gets the table and docs/plots/ the plot; otherwise the table is printed
# and the plot is in DIR.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath -m "${1:?usage: bench/tails.sh DIR [SECONDS] [RUNS] [MORE]}")
seconds=${2:-60} runs=${3:-3}
shift "$(($# < 3 ? $# : 3))"
cargo build --quiet --release --manifest-path bench/engines/Cargo.toml --no-default-features --target-dir target
mkdir -p "$dir"
where=(--plot "$dir/tails.svg")
if [ "$seconds $runs" = "60 3" ]; then
    mkdir -p docs/plots
    where=(--plot docs/plots/tails.svg --into docs/benchmarks.md)
fi
target/release/engines tails --dir "$dir" --seconds "$seconds" --runs "$runs" "${where[@]}" "$@"
