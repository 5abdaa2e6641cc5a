#!/usr/bin/env python3
"""coverage.py BUILD [PERCENT] -- lines of lib/ that the tests ran, from gcov's notes and counts.

BUILD is a folder built with gcc --coverage in which tests have run. A line counts as run when any
object that was made of it ran it, and as code when any of them has code for it; a file that no test
links counts in full. Prints each part of lib/, the total, and the files with most lines left; exits
with 1 when the total is below PERCENT.
"""
import collections
import json
import pathlib
import subprocess
import sys

WORST = 15


def gcov(notes):
    """Yields gcov's word on each source file of these .gcno files."""
    run = subprocess.run(["gcov", "--json-format", "--stdout", *map(str, notes)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if run.returncode != 0:
        sys.exit(f"coverage: gcov: {run.stderr.decode(errors='replace').strip()}")
    for line in run.stdout.splitlines():
        if line.startswith(b"{"):
            yield from json.loads(line)["files"]


def lines_of(build):
    """{file: {line: how often it ran}} of what lies below lib/."""
    counts = collections.defaultdict(lambda: collections.defaultdict(int))
    notes = sorted((build / "lib").rglob("*.gcno"))
    if not notes:
        sys.exit(f"coverage: {build}/lib holds no .gcno: it was not built with --coverage")
    for source in gcov(notes):
        if source["file"].startswith("lib/"):
            for line in source["lines"]:
                counts[source["file"]][line["line_number"]] += line["count"]
    return counts


def row(name, run, all_lines):
    percent = 100 * run / all_lines if all_lines else 100.0
    print(f"  {name:<32} {run:6} of {all_lines:6} lines {percent:6.1f} %")
    return percent


def ranges(numbers):
    """[1,2,3,7] -> "1-3 7", for an editor to go to."""
    spans = []
    for n in numbers:
        if spans and n == spans[-1][1] + 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def main():
    build = pathlib.Path(sys.argv[1])
    least = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    parts = collections.defaultdict(lambda: [0, 0])
    files = []
    for name, lines in sorted(lines_of(build).items()):
        missed = sorted(n for n, count in lines.items() if count == 0)
        files.append((len(missed), name, len(lines), missed))
        for key in (name.split("/")[1], "total"):
            parts[key][0] += len(lines) - len(missed)
            parts[key][1] += len(lines)
    with open(build / "coverage.txt", "w", encoding="utf-8") as report:
        for _, name, _, missed in files:
            if missed:
                print(f"{name}: {ranges(missed)}", file=report)
    print(f"the {WORST} files with most lines that no test ran (all: {build}/coverage.txt)")
    for count, name, all_lines, _ in sorted(files, reverse=True)[:WORST]:
        row(name, all_lines - count, all_lines)
    print("parts of lib/")
    for key in sorted(k for k in parts if k != "total"):
        row(f"lib/{key}", *parts[key])
    percent = row("lib/", *parts["total"])
    if percent < least:
        print(f"coverage: {percent:.1f} % of lib/'s lines, at least {least:.0f} % are asked for")
        return 1
    return 0


sys.exit(main())
