#!/usr/bin/env bash
# Get and Put over gRPC against a bare tonic server of the same services that answers the same bytes, in turn, with the same client.
# bench/grpc.sh [ROUNDS] [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3} seconds=${2:-5} connections=${CONNECTIONS:-8} calls=${CALLS:-8}
cargo build --quiet --release -p esker
cargo build --quiet --release --manifest-path bench/grpc-load/Cargo.toml --target-dir target
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

target/release/grpc-load serve 18500 & pids+=($!)
serve() { # http port, grpc port, sync policy
    target/release/esker serve --port "$1" --resp-port off --binary-port off --grpc-port "$2" --data-dir "$work/$2" --wal-sync-policy "$3" >"$work/$2.log" 2>&1 & pids+=($!)
}
serve 18511 18501 never
serve 18512 18502 always
for port in 18500 18501 18502; do
    for _ in $(seq 200); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.05; done
done
run() { # name port operation connections calls
    printf '%-42s' "$1"
    target/release/grpc-load run "127.0.0.1:$2" "$3" "$4" "$5" "$seconds"
}
(seq 0 99999 | awk '{printf "{\"key\":\"key%d\",\"value\":\"%0100d\"}\n", $1, $1}') | target/release/esker import --endpoint http://127.0.0.1:18511 --format jsonl - >/dev/null
for round in $(seq "$rounds"); do
    echo "round $round"
    for op in get put; do
        run "$op bare tonic" 18500 "$op" "$connections" "$calls"
        run "$op esker" 18501 "$op" "$connections" "$calls"
    done
    run "put esker sync always, 1 call at a time" 18502 put 1 1
    run "put esker sync always" 18502 put "$connections" "$calls"
done
