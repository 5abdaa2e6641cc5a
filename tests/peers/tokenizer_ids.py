"""tokenizer_ids.py SP_TOKENIZE TREE [COUNT [SIZE [FILE…]]]: COUNT texts (25,000), and those with every character, have the ids, and the decoded texts, that the
`tokenizers` package gives them, for each of 11 kinds of tokenizer, 6 of bytes and 5 of characters, and for each tokenizer.json FILE.
"""
import json, os, struct, subprocess, sys, tempfile
import tokenizers
from tokenizer_kinds import SPACED, corpus, kinds, sweep, texts

def ours(program, path, lines):
    packed = b"".join(struct.pack("=I", len(b)) + b for b in lines)
    out = subprocess.run([program, path], input=packed, stdout=subprocess.PIPE, check=True).stdout
    at = 0
    def take(size):
        nonlocal at
        n, = struct.unpack_from("=I", out, at)
        at += 4 + n * size
        return out[at - n * size:at]
    for _ in lines:
        ids = take(4)
        yield list(struct.unpack(f"={len(ids) // 4}I", ids)), take(1).decode(), take(1).decode()
    assert at == len(out)

def compare(program, name, path, lines):
    theirs = tokenizers.Tokenizer.from_file(path)
    wrong = ids_seen = 0
    for text, (ids, kept, skipped) in zip(lines, ours(program, path, [t.encode() for t in lines])):
        expected = theirs.encode(text).ids
        ids_seen += len(ids)
        for what, a, b in (("ids", ids, expected), ("text", kept, theirs.decode(expected, skip_special_tokens=False)),
                           ("text without special tokens", skipped, theirs.decode(expected, skip_special_tokens=True))):
            if a != b:
                wrong += 1
                if wrong <= 5: print(f"{name}: other {what} for {text!r}:\n  ours   {a}\n  theirs {b}")
                break
    print(f"{name}: {len(lines)} texts, {ids_seen} ids, {theirs.get_vocab_size()} tokens: " + (f"{wrong} DIFFER" if wrong else "all the same"))
    return wrong

program, tree = sys.argv[1:3]
count, size = int(sys.argv[3]) if len(sys.argv) > 3 else 25000, int(sys.argv[4]) if len(sys.argv) > 4 else 4000
source = corpus(tree)
lines = texts(source, count) + sweep()
wrong = 0
with tempfile.TemporaryDirectory() as directory:
    for name, data in kinds(source[::3] + SPACED, size).items():
        path = f"{directory}/{name}.json"
        with open(path, "w", encoding="utf-8") as f: json.dump(data, f, ensure_ascii=False)
        wrong += compare(program, name, path, lines)
for path in sys.argv[5:]:
    wrong += compare(program, os.path.basename(path), path, lines)
print(f"tokenizers {tokenizers.__version__}: {sum(map(len, lines))} characters of text, {wrong} texts differ")
sys.exit(wrong != 0)
