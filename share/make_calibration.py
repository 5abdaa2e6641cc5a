#!/usr/bin/env python3
"""make_calibration.py RDATA.RDB >calibration.jsonl -- writes the calibration set that Sallyport ships.

Run from the repository's root. RDATA.RDB is data/Rdata.rdb of the R package janeaustenr 1.0.0 (Debian:
r-cran-janeaustenr), which holds Jane Austen's novels as Project Gutenberg has them; all else comes from
this repository. The order is drawn with a fixed seed, so the same inputs give the same file; the
repository's text has changed since, which makes the checked-in file the one that counts.

A quantizer skips texts of more tokens than its blocks have (512, as AutoAWQ does), and a tokenizer
with few merges, or bytes for what it does not know, needs a token for nearly each byte. So a good part
of the texts has at most SHORT bytes: these count whatever the tokenizer."""
import json
import pathlib
import random
import re
import struct
import sys
import zlib

SHORT = 480
LONG = 1400
# bytes of each kind
SHARES = {"prose": 130_000, "dialogue": 90_000, "code": 110_000, "lists": 50_000, "tables": 50_000}
ROOT = pathlib.Path(".")


def novels(path):
    """The lines of each novel: R's serialization (XDR) of a vector of strings, each of which is the
    flags of a CHARSXP, a length and bytes; behind a length and in zlib's format."""
    data = pathlib.Path(path).read_bytes()
    while data:
        inflate = zlib.decompressobj()
        book = inflate.decompress(data[4:])
        data = inflate.unused_data
        lines = []
        for m in re.finditer(rb"\x00[\x04\x08]\x00\x09(....)", book, re.S):
            size = struct.unpack(">I", m.group(1))[0]
            lines.append(book[m.end():m.end() + size].decode("utf-8", "replace"))
        yield lines


def paragraphs(lines):
    """Unwrapped."""
    text = []
    for line in lines + [""]:
        if line.strip():
            text.append(line.strip())
        elif text:
            yield re.sub(r"_([^_]+)_", r"\1", " ".join(text))
            text = []


def mdoc(text):
    """A manual page as plain paragraphs."""
    out, words = [], []
    for line in text.splitlines():
        if line.startswith('.\\"'):
            continue
        if line.startswith("."):
            parts = line[1:].split()
            if parts and parts[0] in ("Pp", "Sh", "Ss", "It", "Bl", "El", "Bd", "Ed"):
                if words:
                    out.append(" ".join(words))
                words = []
                parts = parts[1:] if parts[0] in ("Sh", "Ss", "It") else []
            line = " ".join(w for w in parts if not re.fullmatch(r"[A-Z][a-z]|-tag|-width|-bullet|Ds", w))
        if line:
            words.append(line)
    return [re.sub(r" ([.,;:)])", r"\1", p) for p in out + [" ".join(words)] if len(p) > 40]


def cut(pieces, joint, size):
    """Joins pieces as long as they fit; longer ones are left out."""
    text = ""
    for piece in pieces:
        more = text + joint + piece if text else piece
        if len(more.encode()) <= size:
            text = more
            continue
        if text:
            yield text
        text = piece if len(piece.encode()) <= size else ""
    if text:
        yield text


def both(pieces, joint, rng):
    """Texts of both sizes, every piece once."""
    pieces = list(pieces)
    at = 0
    while at < len(pieces):
        n = rng.randrange(20, 60)
        yield from cut(pieces[at:at + n], joint, rng.choice((SHORT, LONG)))
        at += n


def functions(path):
    """The functions of a C file, of a Python file, or blocks of lines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".c":
        for block in re.split(r"\n(?=(?:/\*|static |enum |int\n|void\n|struct ))", text):
            yield block.strip("\n")
    elif path.suffix == ".py":
        yield from (b.strip("\n") for b in re.split(r"\n\n+(?=def |class |@)", text))
    else:
        yield from (b.strip("\n") for b in re.split(r"\n\n+", text))


def questions():
    """Questions and answers about the settings, as a chat has them."""
    page = (ROOT / "daemons/ledgerd/sallyport.conf.5").read_text(encoding="utf-8")
    for key, kind, what in re.findall(r"^\.It Li (\S+)\n(.*?)\n((?:[^.\n].*\n)+)", page, re.M):
        what = " ".join(what.split())
        yield (f"User: What is {key} for?\nAssistant: {what} Its value is: "
               f"{re.sub(r'[;.]? ?(default|no default).*', '', kind)}.")


def tables(rng):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line for line in readme.splitlines() if line.startswith("|")]
    yield from cut(lines, "\n", LONG)
    for _ in range(60):
        a, b = rng.randrange(2, 40), rng.randrange(2, 9)
        head = "| × | " + " | ".join(str(a + i) for i in range(b)) + " |"
        rule = "|---" * (b + 1) + "|"
        rows = [f"| {r} | " + " | ".join(str(r * (a + i)) for i in range(b)) + " |" for r in range(2, 9)]
        yield "\n".join([head, rule] + rows)
    for n in range(60):
        rows = [{"id": rng.randrange(10**6), "name": rng.choice(("kiln", "harbour", "lantern", "orchard",
                 "quarry", "saddle", "thimble")), "ratio": round(rng.random(), 4), "open": rng.random() < 0.5}
                for _ in range(rng.randrange(2, 9))]
        yield json.dumps(rows, indent=2) if n % 2 else "\n".join(json.dumps(r) for r in rows)
    for n in range(40):
        names = ("date", "station", "low", "high", "rain")
        rows = [(f"20{rng.randrange(10, 40)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
                 rng.choice(("north pier", "mill lane", "old fort")), f"{rng.uniform(-9, 15):.1f}",
                 f"{rng.uniform(15, 34):.1f}", f"{rng.uniform(0, 40):.1f}") for _ in range(rng.randrange(4, 10))]
        if n % 2:
            yield "\n".join(",".join(r) for r in (names, *rows))
        else:
            yield "\n".join("".join(c.ljust(12) for c in r).rstrip() for r in (names, *rows))


def lists(rng):
    change = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    yield from both([line for line in change.splitlines() if line.startswith("- ")], "\n", rng)
    for page in sorted(ROOT.glob("daemons/*/*.[158]")):
        items = re.findall(r"^\.It (?:Li|Ic|Pa|Fl) (\S+).*\n((?:[^.\n].*\n)+)", page.read_text(encoding="utf-8"), re.M)
        rows = [f"{name}: {' '.join(what.split())}" for name, what in items]
        yield from both([f"- {row}" for row in rows], "\n", rng)
        yield from cut([f"{i + 1}. {row}" for i, row in enumerate(rows)], "\n", SHORT)
    includes = [line for path in sorted(ROOT.glob("lib/*/*.h"))
                for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("/* ") and "--" in line]
    yield from both([f"* {line.strip('/* ')}" for line in includes], "\n", rng)
    things = ("flour", "salt", "eggs", "rope", "nails", "paint", "candles", "soap", "string", "apples", "tea")
    for _ in range(60):
        picked = rng.sample(things, rng.randrange(3, 9))
        yield "To buy:\n" + "\n".join(f"- {rng.randrange(1, 20)} {rng.choice(('kg', 'boxes', 'pieces'))} of {t}" for t in picked)


def collect(rdata):
    rng = random.Random(7)
    out = {kind: [] for kind in SHARES}
    spoken, told = [], []
    for lines in novels(rdata):
        for p in paragraphs(lines[20:]):
            (spoken if p.startswith('"') else told).append(p)
    own = [p for page in sorted(ROOT.glob("daemons/*/*.[158]")) for p in mdoc(page.read_text(encoding="utf-8"))]
    out["prose"] = list(both(own, "\n\n", rng)) + list(both(told, "\n\n", rng))
    rng.shuffle(out["prose"])
    chat = list(questions())
    out["dialogue"] = list(cut(chat, "\n", SHORT))[:40] + list(both(spoken, "\n\n", rng))
    files = [p for suffix in ("lib/**/*.c", "lib/**/*.h", "daemons/**/*.c", "tests/**/*.py", "tests/**/*.sh", "proto/*.proto")
             for p in sorted(ROOT.glob(suffix))]
    for path in files:
        out["code"] += list(both(functions(path), "\n\n", rng))
    out["tables"] = list(tables(rng))
    out["lists"] = list(lists(rng))
    return rng, out


def main():
    rng, kinds = collect(sys.argv[1])
    texts, seen = [], set()
    for kind, share in SHARES.items():
        found = kinds[kind]
        rng.shuffle(found)
        size = 0
        for text in found:
            bytes_ = len(text.encode())
            if text in seen or not 120 <= bytes_ <= LONG:
                continue
            if size + bytes_ > share:
                break
            seen.add(text)
            size += bytes_
            texts.append({"kind": kind, "text": text})
    rng.shuffle(texts)
    for text in texts:
        print(json.dumps(text, ensure_ascii=False, sort_keys=True))


if __name__ == "__main__":
    main()
