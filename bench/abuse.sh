#!/usr/bin/env bash
# What idle connections cost, and what hostile clients cost honest ones, on every front; tables for docs/benchmarks.md.
# bench/abuse.sh [idle | hostile | slow] ...          all three, if none is named; exit code 1 where a bound is broken
#
# ESKER_ABUSE_CONNECTIONS (10000), ESKER_ABUSE_SECONDS (2), ESKER_ABUSE_ROUNDS (3); ESKER_TEST_BINARY is the server, else the
# released one is built. Clients and server share the machine, which should do nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

connections=${ESKER_ABUSE_CONNECTIONS:-10000}
# The server keeps 2,048 files to itself.
need=$((connections + 2448))
ulimit -n "$need" 2>/dev/null || ulimit -n "$(ulimit -Hn)"
if [ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -lt "$need" ]; then
    echo "abuse.sh: $connections connections take $need open files, and the limit is $(ulimit -n): raise it, or set ESKER_ABUSE_CONNECTIONS" >&2
    exit 2
fi
if [ -z "${ESKER_TEST_BINARY:-}" ]; then
    cargo build --quiet --release -p esker
    export ESKER_TEST_BINARY=$PWD/target/release/esker
fi

declare -A tests=(
    [idle]=idle_connections_cost_little_and_keep_nobody_waiting
    [hostile]=honest_clients_wait_no_more_than_twice_as_long
    [slow]=thousands_of_slow_readers_and_writers_hold_no_more_than_the_budgets
)
[ $# -gt 0 ] || set -- idle hostile slow
failed=0
for part in "$@"; do
    test=${tests[$part]:?"is not one of idle, hostile, slow"}
    cargo test --quiet -p esker --test measured -- --ignored --exact --nocapture "abuse::bench::$test" || failed=1
done
exit "$failed"
