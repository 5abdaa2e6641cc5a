"""Writes inclusion.jsonl and consistency.jsonl: the proof vectors of transparency-dev/merkle.

Run:      python3 make_merkle.py CHECKOUT (of github.com/transparency-dev/merkle at the commit in README.md)

One line per file of testdata/inclusion and testdata/consistency, in the order of their names. Every field is
upstream's, but numbers are decimal strings (some are above 2^63) and "file" says where the vector is from.
"""
import json, os, sys

HERE = os.path.dirname(os.path.abspath(__file__))

for kind in ("inclusion", "consistency"):
    top = os.path.join(sys.argv[1], "testdata", kind)
    files = sorted(os.path.relpath(os.path.join(d, f), top) for d, _, fs in os.walk(top) for f in fs)
    with open(f"{HERE}/{kind}.jsonl", "w") as out:
        for name in files:
            with open(os.path.join(top, name)) as f:
                vector = json.load(f, parse_int=str)
            out.write(json.dumps({"file": name} | vector) + "\n")
