"""Writes tokenizer/: a small tokenizer.json of every kind, and what the `tokenizers` package makes of some texts with each.

Run:      $(../peers/venv.sh hf)/bin/python make_tokenizer_kinds.py
Made by:  tokenizers 0.23.3 (see README.md)

  KIND.json     trained on this repository's own text (../peers/tokenizer_kinds.py); one that is there is kept: later text would
                train another
  texts.jsonl   a text a line
  KIND.jsonl.gz for each text {"ids"}, with special tokens; "decoded" with special tokens and "skipped" without, where they are
                not the text
"""
import gzip, json, os, sys
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../peers")
from tokenizers import Tokenizer
from tokenizer_kinds import PHRASES, corpus, kinds, texts

OUT = f"{HERE}/tokenizer"
os.makedirs(OUT, exist_ok=True)
names = sorted(f[:-5] for f in os.listdir(OUT) if f.endswith(".json"))
if not names:
    source = corpus(f"{HERE}/../..")
    for name, data in kinds(source[::5], 720).items():
        with open(f"{OUT}/{name}.json", "w") as f: json.dump(data, f, ensure_ascii=False, separators=(",", ":"))
    names = sorted(kinds(["a"], 300))
    sample = [t[:32] for t in texts(source, 200, seed=3)]
    with open(f"{OUT}/texts.jsonl", "w") as f:
        for text in PHRASES + ["", " ", "a", " a", "a "] + sample: f.write(json.dumps(text) + "\n")
with open(f"{OUT}/texts.jsonl") as f: lines = [json.loads(line) for line in f]
for name in names:
    tok = Tokenizer.from_file(f"{OUT}/{name}.json")
    rows = []
    for text in lines:
        ids = tok.encode(text).ids
        kept, skipped = tok.decode(ids, skip_special_tokens=False), tok.decode(ids, skip_special_tokens=True)
        row = {"ids": ids} | ({"decoded": kept} if kept != text else {}) | ({"skipped": skipped} if skipped != text else {})
        rows.append(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    with open(f"{OUT}/{name}.jsonl.gz", "wb") as f: f.write(gzip.compress("".join(rows).encode(), mtime=0))
print(len(names), "kinds,", len(lines), "texts")
