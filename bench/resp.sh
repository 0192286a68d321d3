#!/usr/bin/env bash
# GET and SET of redis-benchmark against Esker, redis-server and a bare server that answers constants, in turn, with and without
# pipelines; then SET that is synced before it is answered; then what an idle connection costs.
# bench/resp.sh [ROUNDS] [REQUESTS]     needs: redis-server, redis-benchmark
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3} requests=${2:-300000} connections=${CONNECTIONS:-50}
cargo build --quiet --release -p esker
cargo build --quiet --release --manifest-path bench/resp-baseline/Cargo.toml --target-dir target
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

serve() { # port http_port policy arguments
    target/release/esker serve --port "$2" --resp-port "$1" --binary-port off --grpc-port off --data-dir "$work/$1" \
        --wal-sync-policy "$3" "${@:4}" >"$work/$1.log" 2>&1 & pids+=($!)
}
redis() { # port arguments
    mkdir "$work/$1"
    redis-server --port "$1" --bind 127.0.0.1 --dir "$work/$1" --save "" "${@:2}" >"$work/$1.log" 2>&1 & pids+=($!)
}
serve 18310 18311 never
serve 18312 18313 always
target/release/resp-baseline 18316 & pids+=($!)
redis 18314 --appendonly no
redis 18315 --appendonly yes --appendfsync always
serve 18317 18318 never --runtime shared
serve 18319 18320 always --runtime shared
for port in 18310 18312 18314 18315 18316 18317 18319; do
    for _ in $(seq 200); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue 2; sleep 0.05; done
    echo "resp.sh: nothing listens on port $port" >&2
    exit 1
done
run() { # name port connections pipeline command requests
    printf '%-72s' "$5, $3 connections, pipeline $4: $1"
    redis-benchmark -p "$2" -c "$3" -P "$4" -t "$5" -n "$6" -r 100000 -d 100 --csv 2>/dev/null | tail -n 1 | tr -d '"' |
        awk -F, '{printf "%10.0f /s  p50 %.2f ms  p99 %.2f ms\n", $2, $5, $7}'
}
for round in $(seq "$rounds"); do
    echo "round $round"
    for pipeline in 1 16; do
        for command in set get; do
            run bare 18316 "$connections" "$pipeline" "$command" $((requests * (pipeline > 1 ? 4 : 1)))
            run redis 18314 "$connections" "$pipeline" "$command" $((requests * (pipeline > 1 ? 4 : 1)))
            run esker 18310 "$connections" "$pipeline" "$command" $((requests * (pipeline > 1 ? 4 : 1)))
            run "esker, shared" 18317 "$connections" "$pipeline" "$command" $((requests * (pipeline > 1 ? 4 : 1)))
        done
    done
    for many in "$connections" 200; do
        run "redis, fsync always" 18315 "$many" 1 set $((requests / 3))
        run "esker, sync always" 18312 "$many" 1 set $((requests / 3))
        run "esker, shared, sync always" 18319 "$many" 1 set $((requests / 3))
    done
done

idle=1000
memory() { awk '/^VmRSS/ {print $2}' "/proc/$1/status"; }
per_connection() { # name pid port
    local before held
    before=$(memory "$2")
    python3 - "$3" "$idle" <<'PY' >"$work/idle" & held=$!
import socket, sys, time
crowd = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(int(sys.argv[2]))]
for one in crowd:
    one.sendall(b"*1\r\n$4\r\nPING\r\n")
for one in crowd:
    one.recv(64)
print("ready", flush=True)
time.sleep(60)
PY
    pids+=("$held")
    until grep -q ready "$work/idle"; do sleep 0.05; done
    printf '%-42s%10.1f KiB\n' "memory of an idle connection: $1" "$(awk -v a="$before" -v b="$(memory "$2")" -v n="$idle" 'BEGIN {print (b - a) / n}')"
    kill "$held"; wait "$held" 2>/dev/null || true
}
per_connection esker "${pids[0]}" 18310
per_connection redis "${pids[3]}" 18314
