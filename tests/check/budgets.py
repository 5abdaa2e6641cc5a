#!/usr/bin/env python3
"""Budgets of the code: sizes that keep one idea in one place, and nothing left for later.

File 900 lines, header 300, function 70 (from its opening to its closing brace), 100 columns with
tabs of 8. Run from the repository's root; prints one line per excess and exits with 1.
"""
import pathlib
import re
import sys

FILE_MAX, HEADER_MAX, FUNCTION_MAX, COLUMNS_MAX = 900, 300, 70, 100
FOLDERS = ("lib", "daemons", "cuda", "tests", "proto")
# written by other implementations, not by us
FOREIGN = pathlib.PurePath("tests/vectors")
CODE = {".c", ".h", ".inc", ".cu", ".cc", ".proto"}
SCRIPTS = {".sh", ".py", ".mk"}
LATER = re.compile(r"\b(TODO|FIXME|" + "XXX" + r")\b")


def functions(lines):
    """(line, name, length) of each function; clang-format puts its braces into column 1."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            head = " ".join(lines[max(0, start - 4):start - 1])
            names = re.findall(r"(\w+)\s*\(", head)
            yield start, names[0] if names else "?", number - start + 1
            start = None


def check(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix in CODE:
        limit = HEADER_MAX if path.suffix == ".h" else FILE_MAX
        if len(lines) > limit:
            yield 1, f"{len(lines)} lines, at most {limit}"
        for number, name, length in functions(lines):
            if length > FUNCTION_MAX:
                yield number, f"function {name} has {length} lines, at most {FUNCTION_MAX}"
        for number, line in enumerate(lines, 1):
            width = len(line.expandtabs(8))
            if width > COLUMNS_MAX:
                yield number, f"{width} columns, at most {COLUMNS_MAX}"
    for number, line in enumerate(lines, 1):
        if LATER.search(line):
            yield number, "something is left for later: do it, or open an issue"


def main():
    found = 0
    for folder in FOLDERS:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.suffix not in CODE | SCRIPTS or FOREIGN in path.parents:
                continue
            if path.resolve() == pathlib.Path(__file__).resolve():
                continue
            for number, text in check(path):
                print(f"{path}:{number}: {text}")
                found += 1
    return 1 if found else 0


sys.exit(main())
