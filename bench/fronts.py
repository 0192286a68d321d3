#!/usr/bin/env python3
"""Tables and a plot of what bench/resp.sh, bench/http.sh and bench/grpc.sh print.

bench/fronts.py docs/plots/fronts.svg FILE...    needs: matplotlib

Medians over the rounds. The plot has one bar for each server and row, as a part of the bare server's rate of the same row.
"""
import re
import statistics
import sys
from collections import defaultdict

LINE = re.compile(r"(?P<name>.*?)\s+(?P<rate>\d+) /s\s+(?P<rest>.*)$")
TIME = re.compile(r"(p50|p99|p99\.9) ([\d.]+) (us|ms)")


def row_and_server(name):
    """`set, 50 connections: bare` or `get bare axum, one runtime`: what is measured, and on what."""
    row, server = name.split(": ", 1) if ": " in name else name.split(" ", 1)
    # What waits for the disk is a row of its own.
    unsynced = re.sub(r",? f?sync always\b", "", server)
    return (f"{row}, synced", unsynced) if unsynced != server else (row, server)


def read(files):
    """{(row, server): [(rate, {quantile: milliseconds})]}, in the order of their first appearance."""
    runs = defaultdict(list)
    for path in files:
        protocol = path.rsplit("/", 1)[-1].split(".")[0]
        for line in open(path):
            if found := LINE.match(line.rstrip()):
                row, server = row_and_server(found["name"])
                times = {q: float(n) / (1000 if unit == "us" else 1) for q, n, unit in TIME.findall(found["rest"])}
                runs[f"{protocol} {row}", server].append((int(found["rate"]), times))
    return runs


def medians(runs):
    table = defaultdict(dict)
    for (row, server), seen in runs.items():
        quantiles = {q: statistics.median(times[q] for _, times in seen) for q in seen[0][1]}
        table[row][server] = statistics.median(rate for rate, _ in seen), quantiles
    return table


def best(servers, word):
    rates = [rate for server, (rate, _) in servers.items() if word in server]
    return max(rates, default=None)


def part(rate, of):
    return f"{rate / of:.2f}" if of else ""


def markdown(table):
    print("| | a second | of bare | of redis-server | p50, ms | p99, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for row, servers in table.items():
        for server, (rate, times) in servers.items():
            compared = "esker" in server
            of_bare, of_redis = (part(rate, best(servers, word)) if compared else "" for word in ("bare", "redis"))
            print(f"| {row}: {server} | {rate:,.0f} | {of_bare} | {of_redis} | {times['p50']:.2f} | {times['p99']:.2f} |")


def plot(table, path):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as pyplot

    rows = [row for row, servers in table.items() if best(servers, "bare")]
    figure, axes = pyplot.subplots(figsize=(9, 0.6 * len(rows) + 1))
    for at, row in enumerate(rows):
        servers, bare = table[row], best(table[row], "bare")
        shown = [(word, best(servers, word)) for word in ("redis", "esker") if best(servers, word)]
        for place, (word, rate) in enumerate(shown):
            color = "#2b6cb0" if word == "esker" else "#c05621"
            bar = axes.barh(at + 0.36 * place - 0.18, rate / bare, height=0.34, color=color)
            axes.bar_label(bar, [f" {word}: {rate:,.0f}/s"], fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xlim(0, 1.5)
    axes.invert_yaxis()
    axes.set_xlabel("part of the bare server's rate")
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    figures = medians(read(sys.argv[2:]))
    markdown(figures)
    plot(figures, sys.argv[1])
