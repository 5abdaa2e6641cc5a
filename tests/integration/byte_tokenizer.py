"""byte_tokenizer.py DIR -- a tokenizer.json with a token for each byte, and for the answers of MMLU (" A"
to " D"): enough for the tiny random models of tests/fixtures/arch (vocabulary 264)."""
import json
import sys

# how byte-level tokenizers write bytes (GPT-2's table): printable ones as themselves
plain = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
letters = {b: chr(b) for b in plain}
letters.update({b: chr(256 + i) for i, b in enumerate(sorted(set(range(256)) - set(plain)))})
vocab = {letters[b]: b for b in range(256)}
vocab.update({letters[32] + answer: 256 + i for i, answer in enumerate("ABCD")})
byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
with open(f"{sys.argv[1]}/tokenizer.json", "w", encoding="utf-8") as f:
    json.dump({
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 260, "content": "<|endoftext|>", "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}],
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": [f"{letters[32]} {answer}" for answer in "ABCD"]},
    }, f)
