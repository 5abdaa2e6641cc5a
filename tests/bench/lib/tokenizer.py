"""tokenizer.py SP_TOKENIZE TREE DIR RUNS: for each kind a figure, runs of both sides by turns. Every run begins with a tokenizer that
was just read and has seen no word yet; reading it is not measured.
"""
import json, os, random, struct, subprocess, sys, time
program, tree, directory, runs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
sys.path.insert(0, f"{tree}/tests/peers")
import tokenizers
from tokenizer_kinds import QWEN2, byte_level, characters, corpus, llama2, texts

def documents(lines):
    return ["".join(lines[i:i + 40]) for i in range(0, len(lines), 40)]

source = corpus(tree)
text = documents(source) + documents(texts(source, 40000, seed=7))
random.Random(5).shuffle(text)
packed = b"".join(struct.pack("=I", len(b)) + b for b in (t.encode() for t in text))
print(f"tokenizer_vs_hf: {len(text)} documents, {len(packed)} bytes, tokenizers {tokenizers.__version__}", file=sys.stderr)

def ours(path):
    return float(subprocess.run([program, path, "1"], input=packed, stdout=subprocess.PIPE, check=True).stdout)

def theirs(path):
    tok = tokenizers.Tokenizer.from_file(path)
    began = time.perf_counter()
    tok.encode_batch_fast(text)  # ids without offsets: the faster of its ways
    return time.perf_counter() - began

for name, tok in (("tokenizer_vs_hf", byte_level(source, 32000, [QWEN2], ["<|endoftext|>"], normalizer=tokenizers.normalizers.NFC())),
                  ("tokenizer_vs_hf_llama2", characters(source, 32000, llama2, as_words=True, fuse_unk=True))):
    path = os.path.join(directory, f"{name}.json")
    with open(path, "w", encoding="utf-8") as f: f.write(tok.to_str())
    pairs = [(ours(path), theirs(path)) for _ in range(runs)]
    print(json.dumps({"name": name, "unit": "s", "better": "lower", "ours": [p[0] for p in pairs], "rival": "tokenizers, encode_batch_fast",
                      "rival_values": [p[1] for p in pairs]}), flush=True)
