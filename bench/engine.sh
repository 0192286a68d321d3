#!/usr/bin/env bash
# The log and the engine beside what the device allows.  bench/engine.sh DIR [COUNT]     needs: fio
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath "${1:?usage: bench/engine.sh DIR [COUNT]}") count=${2:-5000000}
cargo build --quiet --release -p esker-engine --example engine_bench
echo "fio: 4 KiB writes, an fdatasync after each, one job"
fio --name=sync --rw=write --bs=4k --size=64m --fdatasync=1 --runtime=5 --time_based --directory="$dir" --ioengine=psync |
    grep -E 'IOPS=|sync \(usec\)'
rm -f "$dir"/sync.*
for section in synced fill amplification keys segments; do
    target/release/examples/engine_bench "$dir" "$count" "$section"
done
