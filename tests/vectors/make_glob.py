#!/usr/bin/env python3
"""Writes glob.tsv: PATTERN, PATH and whether fnmatch.fnmatchcase of Python says that they match, with
'*' put behind a pattern that ends in '/', as huggingface_hub (utils/_paths.py) does.

usage: make_glob.py >glob.tsv"""
import fnmatch
import random

PATTERNS = """* ** *.bin *.safetensors onnx/ onnx/* */x.json model-?????-of-*.safetensors [a-c]*.json
[!a-c]* [!]]* []-a]x [a-] [--0] [a-c-e] [z-a] [!z-a] [ [a [] [!] [!x a[ *[ ?.? ??? * / a/b/ a[/ [/]
[]] [[] [*] [?]* original/**/*.pth tokenizer* *config.json a*b*c*d é* ?é [é-ü] [!é]* *日本* a-[b- [a-b--c]
[ab-]x [!-a] [!!] [^a] [a&&b] [a||b] [~] \\* x\\y""".split()
PATHS = """a b c x ab abc a.b a/b a/b/c config.json tokenizer_config.json onnx/model.onnx onnx/sub/x.json
model-00001-of-00002.safetensors pytorch_model.bin original/a/consolidated.00.pth ] - ^ ! & | ~ * ?
é éa ü xé 日本 a日本b ax -x ]x [ a[ a[x [a axbxcxd abcd a-b a-[b- -a /a x\\y .gitattributes 0 -0""".split()
random.seed(1)
chars = "ab*?[]!-/é."
for _ in range(400):
    PATTERNS.append("".join(random.choice(chars) for _ in range(random.randint(1, 7))))
    PATHS.append("".join(random.choice("ab/.-é[]!") for _ in range(random.randint(1, 7))))


def line(pattern, path):
    wide = pattern + "*" if pattern.endswith("/") else pattern
    return f"{pattern}\t{path}\t{int(fnmatch.fnmatchcase(path, wide))}"


lines = {line(pattern, path) for pattern in PATTERNS for path in PATHS}
hits = sorted(text for text in lines if text.endswith("1"))
misses = sorted(text for text in lines if text.endswith("0"))
for text in sorted(random.sample(hits, 1500) + random.sample(misses, 1000)):
    print(text)
