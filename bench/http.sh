#!/usr/bin/env bash
# GET and PUT over keep-alive HTTP against a bare axum server that answers the same bytes, with wrk, in turn.
# bench/http.sh [ROUNDS] [SECONDS]     needs: wrk
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3} seconds=${2:-5} connections=${CONNECTIONS:-64}
cargo build --quiet --release -p esker
cargo build --quiet --release --manifest-path bench/http-baseline/Cargo.toml --target-dir target
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

cat >"$work/get.lua" <<'LUA'
local n = 0
request = function()
  n = (n * 1103515245 + 12345) % 100000
  return wrk.format("GET", "/api/v1/kv/key" .. n)
end
LUA
cat >"$work/put.lua" <<'LUA'
local n = 0
local body = string.rep("7", 100)
request = function()
  n = (n * 1103515245 + 12345) % 100000
  return wrk.format("PUT", "/api/v1/kv/key" .. n, nil, body)
end
done = function(summary, latency)
  io.write(string.format("  errors %d p50 %d us p99 %d us p99.9 %d us\n", summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
LUA
sed -n '/^done/,$p' "$work/put.lua" >>"$work/get.lua"

target/release/http-baseline 18300 & pids+=($!)
target/release/http-baseline 18301 shared & pids+=($!)
target/release/esker serve --port 18302 --resp-port off --binary-port off --grpc-port off --data-dir "$work/never" --runtime per-core --wal-sync-policy never >"$work/never.log" 2>&1 & pids+=($!)
target/release/esker serve --port 18304 --resp-port off --binary-port off --grpc-port off --data-dir "$work/shared" --runtime shared --wal-sync-policy never >"$work/shared.log" 2>&1 & pids+=($!)
target/release/esker serve --port 18303 --resp-port off --binary-port off --grpc-port off --data-dir "$work/always" --wal-sync-policy always >"$work/always.log" 2>&1 & pids+=($!)
for port in 18300 18301 18302 18303 18304; do
    for _ in $(seq 200); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.05; done
done
run() { # name port script connections
    printf '%-34s' "$1"
    wrk -t1 -c"$4" -d"${seconds}s" -s "$work/$3.lua" "http://127.0.0.1:$2" | awk '/Requests\/sec/{r=$2} /errors [0-9]+ p50/{l=$0} END{printf "%10.0f /s %s\n", r, l}'
}
for port in 18302 18304; do (seq 0 99999 | awk '{printf "{\"key\":\"key%d\",\"value\":\"%0100d\"}\n", $1, $1}') | target/release/esker import --endpoint "http://127.0.0.1:$port" --format jsonl - >/dev/null; done
for round in $(seq "$rounds"); do
    echo "round $round"
    for op in get put; do
        run "$op bare axum, a runtime a core" 18300 "$op" "$connections"
        run "$op bare axum, one runtime" 18301 "$op" "$connections"
        run "$op esker, a runtime a core" 18302 "$op" "$connections"
        run "$op esker, one runtime" 18304 "$op" "$connections"
    done
    run "put esker sync always, 1 connection" 18303 put 1
    run "put esker sync always, 64 conn." 18303 put 64
done
