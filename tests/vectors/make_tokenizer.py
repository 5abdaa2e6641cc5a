"""Writes tokenizer.jsonl and tokenizer_decode.jsonl: the `tokenizers` package on tests/fixtures/model/tokenizer.json.

Run:      $(../peers/venv.sh hf)/bin/python make_tokenizer.py
Made by:  tokenizers 0.23.3 (see README.md)

  tokenizer.jsonl         {"text", "ids", "decoded"}; decoded keeps special tokens. Text may hold U+0000.
  tokenizer_decode.jsonl  {"ids", "decoded"}: single bytes, cut and broken UTF-8, as generation meets them
JSON is ASCII with \\u escapes (surrogate pairs beyond the BMP).
"""
import json, os, random
from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__)); FIXTURES = f"{HERE}/../fixtures"
tok = Tokenizer.from_file(f"{FIXTURES}/model/tokenizer.json")

PIECES = [
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\t\t", " \t ", "\r", "\r\n", "\r\n\r\n", "\r\r\n\n", " \n", "\n ", " \r\n ", "  \n  \n  ",
    "a", "A", "z", "0", "9", "~", "!", "é", "Paris", " Paris", "  Paris", "Paris ", "Paris  ", "\nParis", "\tParis", " Paris\n", "PARIS", "pArIs",
    "Hello, world!", "The capital of France is Paris.", "two  spaces", "three   spaces", "trailing space ", " leading space", "  both  ", "tab\there",
    "0123456789", "1234567890123", "3.14159", "1,000,000", "12 + 7 = 19", "-42", "1e-9", "0x7fff", "v1.2.3-rc4", "100%", "№5", "½ ¾", "²³", "Ⅷ Ⅻ", "٠١٢٣٤٥٦٧٨٩", "०१२३", "𝟘𝟙𝟚",
    "I'm", "you're", "he's", "we've", "they'll", "I'd", "don't", "I'M", "YOU'RE", "HE'S", "WE'VE", "THEY'LL", "I'D", "DON'T", "'s", "'S", "''s", "'sam", "'tis", "o'clock", "rock'n'roll", "’s don’t", "'ſ it'ſ", "'\u212a",
    "line one\nline two\n", "line one\r\nline two\r\n", "a\r\n\r\nb", "a\n\n\nb", "a \n b", "a  \n  b", "x\r\ry", "!\n", "!\r\n\r\n", "...\n\n\nx", "{\n    return;\n}\n", ";\n\n  \n",
    "e\u0301", "cafe\u0301", "café", "A\u030a", "Å", "\u212b", "n\u0303o", "o\u0308\u0304", "q\u0307\u0323", "\u1e9b\u0323", "\u0958", "\u2126", "\u037e", "\uf900", "\u0344", "\u1100\u1161\u11a8", "각", "ﬁ ﬂ", "ẛ̣", "\u0340a", "a\u0315\u0300\u05ae\u0062", "\u0301", "\u0301e", "x\u0301\u0301\u0301", "\u2000\u2001", "\u1fef", "\U0002f800",
    "你好，世界！", "今天天气很好。", "日本語のテキスト", "ひらがなカタカナ", "か\u3099", "한국어 텍스트", "ｆｕｌｌｗｉｄｔｈ １２３", "　全角空白　", "𠮷野家", "中a文b混c",
    "😀", "😀😀", " 😀", "👍🏽", "👨\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "🇫🇷🇩🇪", "❤️", "☺︎", "a😀b", "🤷🏽\u200d♀️!", "1️⃣2️⃣",
    "مرحبا بالعالم", "السلام عليكم", "لا إله", "\u0622 \u0627\u0653", "שָׁלוֹם", "\ufb2a", "עברית", "हिन्दी में", "ภาษาไทย", "Ελληνικά", "Привет, мир", "Ёлка", "И\u0306", "Việt Nam", "Viê\u0323t", "ꙮ", "𐍈", "𝔘𝔫𝔦", "ｱ",
    "\u00a0", "a\u00a0b", "\u2028", "a\u2028b", "\u2029", "\u0085", "a\u0085b", "\u200b", "a\u200bb", "\u200e\u200f", "\ufeff", "\ufeffBOM", "\u202e", "\u00ad", "\u3000", "\u1680", "\u180e", "\u2003x", "\x0b", "\x0c", "a\x0bb\x0cc", "\x1c\x1d\x1e\x1f", "\x7f", "\x80\x9f",
    "\x00", "a\x00b", "\x00\x00", " \x00 ", "\x01\x02\x03", "\x1b[31mred\x1b[0m", "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\ud7ff\ue000", "\ue000", "\U000f0000",
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n", "a<|endoftext|>b", " <|endoftext|> ", "<|endoftext|><|endoftext|>", "<|endoftext|", "<|ENDOFTEXT|>", "<|<|im_end|>|>", "<|im_end|>\r\n", "<|im_start|>\n", "e<|im_end|>\u0301", "<|unknown|>", "x\n<|im_end|>\ny", "'<|im_end|>s",
    "def add(a, b):\n    return a + b\n", "for i in range(10):\n\tprint(i)\n", "if __name__ == \"__main__\":\r\n    main()\r\n", "x = {'a': [1, 2, 3]}", "a->b->c", "//comment\n#include <stdio.h>", "https://example.org/a?b=c&d=%20#e", "user@example.org", "C:\\path\\file.txt", "a_b_c __init__", "snake_case camelCase PascalCase SCREAMING_CASE",
    "!!!", "???", "...", "--", "—–", "“quoted”", "‘single’", "«guillemets»", "$5 €6 £7 ¥8", "© ® ™", "+-*/=", "()[]{}<>", "`~!@#$%^&*()_+-=[]{}|;':\",./<>?", "\\n", "\\", "\"", "a.b", " .", " ,x", "!a", "#a", " #a", "$a1", "_a", "-a", "\u00b4a", "a\u0300b",
    "Answer: A", "Answer:", " A", "A", " B", "Question: \nA. x\nB. y\nC. z\nD. w\nAnswer:", "ǅ ǈ", "ß ẞ SS", "İ ı", "ﷺ", "ſ", "K",
]
rng = random.Random(20)
parts = [p for p in PIECES if p]
texts = list(PIECES)
texts += ["".join(rng.choice(parts) for _ in range(rng.randint(2, 7))) for _ in range(120)]
alphabet = [*map(chr, range(0x20, 0x7f)), *"\n\r\t ", *"éèñüßøåçğı", *"中文字한글かな", *"😀👍\u200d\ufe0f\u0301\u0308\u0327", *"אבגابت", *"०१١٢", "\u00a0", "\u3000"]
texts += ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 60))) for _ in range(120)]
docs = [json.loads(l)["text"] for _, l in zip(range(60), open(f"{FIXTURES}/heldout.jsonl"))]
texts += docs[:12] + ["".join(docs[12:40]), " " * 1000, "a" * 1000, "\n" * 257, "ab " * 700, "é" * 300, "e\u0301" * 300, "😀" * 100, "1" * 300, "\u0301" * 100, "a" + "\u0316\u0301" * 40]

with open(f"{HERE}/tokenizer.jsonl", "w") as f:
    for text in texts:
        ids = tok.encode(text).ids
        f.write(json.dumps({"text": text, "ids": ids, "decoded": tok.decode(ids, skip_special_tokens=False)}) + "\n")

runs = [[i] for i in range(256)]                                                        # byte tokens and a few merges
for t in ("é", "日本", "😀", "👨\u200d👩", "a日", "Ω≈ç√", "\U0010ffff"):
    b = tok.encode(t).ids
    runs += [b[:n] for n in range(1, len(b))] + [b[n:] for n in range(1, len(b))] + [b[::-1], b[:-1] + tok.encode("x").ids + b[-1:]]
byte = {c: tok.token_to_id(c) for c in tok.get_vocab() if len(c) == 1}
B = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]; rest = [b for b in range(256) if b not in B]
chars = {b: byte[chr(b)] for b in B} | {b: byte[chr(256 + n)] for n, b in enumerate(rest)}
for raw in (b"\xc0\xaf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xff\xfe", b"\x80\x80", b"\xe6\x97x", b"\xf0\x9f\x98x", b"\xf0\x9f\xe6\x97\xa5", b"a\xc3", b"\xc3(", b"\xe2\x82\xe2\x82\xac"):
    runs.append([chars[b] for b in raw])
runs += [[rng.randrange(tok.get_vocab_size()) for _ in range(rng.randint(2, 12))] for _ in range(60)] + [[]]
with open(f"{HERE}/tokenizer_decode.jsonl", "w") as f:
    for ids in runs: f.write(json.dumps({"ids": ids, "decoded": tok.decode(ids, skip_special_tokens=False)}) + "\n")
print(len(texts), "texts,", len(runs), "id runs, vocabulary", tok.get_vocab_size())
