"""tokenizer.py REPO VECTORS: transformers, offline, from the cache that huggingface_hub filled, tokenizes as VECTORS say."""
import json, sys, transformers
from transformers import AutoConfig, AutoTokenizer

config = AutoConfig.from_pretrained(sys.argv[1])
assert config.model_type == "qwen2", config
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
with open(sys.argv[2], encoding="utf-8") as f:
    vectors = [json.loads(line) for line in f]
for v in vectors:
    assert tokenizer(v["text"])["input_ids"] == v["ids"], v
assert "assistant" in tokenizer.chat_template
print(f"transformers {transformers.__version__}, offline: {len(vectors)} texts tokenized as expected")
