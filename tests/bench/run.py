#!/usr/bin/env python3
"""run.py NAME... -- benchmarks: a table on stdout, build/bench.json beside it.

tests/bench/NAME.sh measures one or more figures. It runs in the repository's root with

    B, BIN      build directory, and its programs
    BENCH_DIR   an empty directory, removed afterwards
    BENCH_RUNS  how often each side is to be measured

and prints one JSON object per figure; all else it says goes to stderr:

    {"name": "fetch_vs_curl", "unit": "s", "better": "lower", "ours": [1.1, ...],
     "rival": "curl + sha256sum + sync", "rival_values": [1.3, ...], "target": 1.0}

Runs of both sides alternate, so ours[i] and rival_values[i] saw the same machine. A figure that has
no rival gives "limit", the number that it is held to, instead of the two. The ratio is the median of
the runs' ratios, turned so that more is better; target (1 when it is left out) is what it should
reach. A figure below its target is shown as such, and is no failure: machines are noisy.

bench.json is that of the whole suite: a run of some benchmarks replaces their figures alone, as long
as machine and commit are the same.
"""
import datetime
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
RUNS = 5
FIELDS = {"name", "unit", "better", "ours", "rival", "rival_values", "limit", "target"}


class Malformed(Exception):
    """What a benchmark printed is not what the text above says."""


def numbers(value, what):
    if not isinstance(value, list) or not value:
        raise Malformed(f"{what} is no list of numbers")
    for v in value:
        if isinstance(v, bool) or not isinstance(v, (int, float)) or v <= 0:
            raise Malformed(f"{what} holds {v!r}, no number above 0")
    return [float(v) for v in value]


def read_figure(line):
    """One line of a benchmark as a result of bench.json."""
    try:
        figure = json.loads(line)
    except ValueError as e:
        raise Malformed(f"no JSON: {e}") from None
    if not isinstance(figure, dict) or not {"name", "unit", "better", "ours"} <= figure.keys():
        raise Malformed("name, unit, better and ours are needed")
    if figure.keys() - FIELDS:
        raise Malformed(f"unknown field {sorted(figure.keys() - FIELDS)[0]}")
    if figure["better"] not in ("lower", "higher"):
        raise Malformed("better is neither lower nor higher")
    ours = numbers(figure["ours"], "ours")
    if "limit" in figure:
        rival, values = "limit", numbers([figure["limit"]], "limit") * len(ours)
    else:
        rival, values = figure.get("rival"), numbers(figure.get("rival_values"), "rival_values")
    if not rival or len(values) != len(ours):
        raise Malformed("a rival with as many rival_values as ours, or a limit, is needed")
    lower = figure["better"] == "lower"
    ratios = [r / o if lower else o / r for o, r in zip(ours, values)]
    return {
        "name": figure["name"],
        "ours": statistics.median(ours),
        "unit": figure["unit"],
        "better": figure["better"],
        "rival": rival,
        "rival_value": statistics.median(values),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "target": float(figure.get("target", 1)),
        "runs": len(ours),
    }


def run(script, build):
    """The figures of one benchmark; None when it failed."""
    scratch = tempfile.mkdtemp(prefix="sp-bench.", dir=os.environ.get("TMPDIR", "/tmp"))
    env = dict(os.environ, B=str(build), BIN=str((build / "bin").resolve()), BENCH_DIR=scratch)
    env.setdefault("BENCH_RUNS", str(RUNS))
    try:
        done = subprocess.run([script], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if done.returncode != 0:
        print(f"bench: {script.name} failed with status {done.returncode}", file=sys.stderr)
        return None
    results = []
    for line in done.stdout.decode().splitlines():
        try:
            results.append(read_figure(line))
        except Malformed as e:
            print(f"bench: {script.name}: {e}: {line}", file=sys.stderr)
            return None
    if not results:
        print(f"bench: {script.name} printed no figure", file=sys.stderr)
        return None
    return results


def machine():
    cpu = ""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory_kib = int(pathlib.Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": cpu,
        "processors": os.cpu_count(),
        "memory_gib": round(memory_kib / (1 << 20)),
        "kernel": platform.release(),
    }


def commit():
    def git(*args):
        return subprocess.run(["git", *args], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")


def save(path, results):
    head = {"machine": machine(), "commit": commit()}
    kept = []
    try:
        old = json.loads(path.read_text())
        if {key: old[key] for key in head} == head:
            new = {result["name"] for result in results}
            kept = [result for result in old["results"] if result["name"] not in new]
    except (OSError, ValueError, KeyError):
        pass
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    head.update(time=now, results=sorted(kept + results, key=lambda r: r["name"]))
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(head, indent=1) + "\n")
    temporary.replace(path)


def table(results):
    row = "{:<26} {:>12} {:>12}  {:<8} {:>7}  {:>15} {:>5}  {}"
    print(row.format("figure", "ours", "rival", "unit", "ratio", "of its runs", "runs", "rival"))
    for r in results:
        spread = f"{r['ratio_min']:.2f}-{r['ratio_max']:.2f}"
        note = "" if r["ratio"] >= r["target"] else f"  (below {r['target']:g})"
        print(row.format(r["name"], f"{r['ours']:.5g}", f"{r['rival_value']:.5g}", r["unit"],
                         f"{r['ratio']:.2f}", spread, r["runs"], r["rival"] + note))


def main(names):
    build = pathlib.Path(os.environ.get("B", "build/rel"))
    there = {path.stem: path for path in sorted(HERE.glob("*.sh")) if os.access(path, os.X_OK)}
    unknown = [name for name in names if name not in there]
    if unknown:
        print(f"bench: there is no {unknown[0]}: {', '.join(there)}", file=sys.stderr)
        return 2
    results, failed = [], []
    for name in names or there:
        print(f"bench: {name}", file=sys.stderr)
        figures = run(there[name], build)
        if figures is None:
            failed.append(name)
        else:
            results += figures
    path = build.parent / "bench.json"
    if results:
        table(results)
        save(path, results)
        print(f"bench: {path}")
    if failed:
        print(f"bench: failed: {' '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
