#!/usr/bin/env python3
"""Turns the output of `apt-cache dumpavail` into JSON Lines for `esker import`.

Reads records on standard input (paragraphs of `Field: value` lines, separated by empty lines) and writes one line
{"key": "<package>/<version>/<architecture>", "value": "<the record's text>"} for each. Where several records would
have the same key, "#2", "#3" ... is added, so that every record arrives.
"""

import json
import sys


def records(lines):
    record = []
    for line in lines:
        if line.strip():
            record.append(line)
        elif record:
            yield record
            record = []
    if record:
        yield record


def field(record, name):
    prefix = name + ":"
    for line in record:
        if line.startswith(prefix):
            return line[len(prefix):].strip()
    return ""


def main():
    # Bytes that are no UTF-8 are replaced: JSON strings are text.
    source = open(sys.stdin.fileno(), encoding="utf-8", errors="replace", newline="\n")
    seen = {}
    for record in records(source):
        package = field(record, "Package")
        if not package:
            sys.exit("a record without a Package field: is this the output of apt-cache dumpavail?")
        key = "/".join([package, field(record, "Version"), field(record, "Architecture")])
        count = seen[key] = seen.get(key, 0) + 1
        if count > 1:
            key = f"{key}#{count}"
        print(json.dumps({"key": key, "value": "".join(record)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
