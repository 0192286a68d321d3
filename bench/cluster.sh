#!/usr/bin/env bash
# Three nodes on this machine: synced replicated puts and linearizable gets, Esker over HTTP beside etcd over gRPC, in
# turn, and beside Esker on its own.
# bench/cluster.sh [ROUNDS] [SECONDS]     needs: etcd (apt: etcd-server)
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3} seconds=${2:-5} records=100000
[ -x "${ESKER:-}" ] || { cargo build --quiet --release -p esker; ESKER=target/release/esker; }
cargo build --quiet --release --manifest-path bench/etcd-load/Cargo.toml --target-dir target
load=target/release/etcd-load
work=$(mktemp -d)
pids=()
stop() { kill "${pids[@]}" 2>/dev/null || true; wait "${pids[@]}" 2>/dev/null || true; pids=(); }
trap 'stop; rm -rf "$work"' EXIT

wait_for() { for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done; echo "not up: $*" >&2; exit 1; }
written() { # bytes handed to the disk by each process, in MB
    for pid in "${pids[@]}"; do awk '/^write_bytes/ { printf "%.0f ", $2 / 1e6 }' "/proc/$pid/io"; done
}

peers=n1=http://127.0.0.1:18381,n2=http://127.0.0.1:18382,n3=http://127.0.0.1:18383
etcd_endpoints=http://127.0.0.1:18371,http://127.0.0.1:18372,http://127.0.0.1:18373
start_etcd() {
    for n in 1 2 3; do
        etcd --name "n$n" --data-dir "$work/etcd$1-$n" --listen-client-urls "http://127.0.0.1:1837$n" --advertise-client-urls "http://127.0.0.1:1837$n" \
            --listen-peer-urls "http://127.0.0.1:1838$n" --initial-advertise-peer-urls "http://127.0.0.1:1838$n" --initial-cluster "$peers" \
            --log-level error >"$work/etcd$n.log" 2>&1 & pids+=($!)
    done
    wait_for "$load" put "$etcd_endpoints" 1 0.1 1
}
nodes=127.0.0.1:18391:18361,127.0.0.1:18392:18362,127.0.0.1:18393:18363
esker_endpoints=http://127.0.0.1:18391,http://127.0.0.1:18392,http://127.0.0.1:18393
start_esker() {
    for n in 1 2 3; do
        "$ESKER" serve --resp-port off --grpc-port off --cluster-nodes "$nodes" --node-id "$n" --data-dir "$work/esker$1-$n" >"$work/esker$n.log" 2>&1 & pids+=($!)
    done
    wait_for "$ESKER" put --endpoint "$esker_endpoints" ready ready
}
line() { awk '/per second| on / { next } /^(insert|read)/ { printf "%s %s: %s/s, p50 %s, p99 %s, p99.9 %s\n", $1, what, $3, $4, $6, $7 }' what="$1"; }

for round in $(seq "$rounds"); do
    start_etcd "$round"
    for clients in 50 200; do
        for to in "" leader; do # spread over the nodes, and all to the leader
            echo "etcd  $("$load" put "$etcd_endpoints" $clients "$seconds" $records $to) $to"
            echo "etcd  $("$load" get "$etcd_endpoints" $clients "$seconds" $records $to) $to"
        done
    done
    echo "etcd  written by the nodes, MB: $(written)"
    stop
    start_esker "$round"
    for clients in 50 200; do
        echo "esker $("$ESKER" bench fill --target $esker_endpoints --connections $clients --duration "${seconds}s" --records 100000000 --value-bytes 100 | line "$clients clients")"
        echo "esker $("$ESKER" bench read --target $esker_endpoints --connections $clients --duration "${seconds}s" --records $records --value-bytes 100 | line "$clients clients")"
    done
    echo "esker written by the nodes, MB: $(written)"
    stop
    "$ESKER" serve --port 18391 --resp-port off --grpc-port off --data-dir "$work/single$round" >"$work/single.log" 2>&1 & pids+=($!)
    wait_for "$ESKER" put --endpoint http://127.0.0.1:18391 ready ready
    for clients in 50 200; do
        echo "single $("$ESKER" bench fill --target http://127.0.0.1:18391 --connections $clients --duration "${seconds}s" --records 100000000 --value-bytes 100 | line "$clients clients")"
        echo "single $("$ESKER" bench read --target http://127.0.0.1:18391 --connections $clients --duration "${seconds}s" --records $records --value-bytes 100 | line "$clients clients")"
    done
    echo "single written, MB: $(written)"
    stop
done
