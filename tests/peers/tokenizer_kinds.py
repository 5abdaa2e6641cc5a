"""Tokenizers of every kind that lib/model reads, trained by the `tokenizers` package on this repository's own text, and texts to
try them on. Both come out the same in every run on the same tree. Used by tokenizer_ids.py and tests/vectors/make_tokenizer_kinds.py.
"""
import json, os, random, unicodedata
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

GPT2 = None  # ByteLevel brings it
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
          r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

PHRASES = [
    "The quick brown fox can't jump over 12,345 lazy dogs; it's 3.14159!", "I'M you'RE he'S we'Ve they'LL I'd don'T o'clock 'tis",
    "Größere Übung macht den Meister, heißt es.", "Où est la bibliothèque, s'il vous plaît ?", "¿Cómo estás? ¡Muy bien, señor!", "Zażółć gęślą jaźń",
    "İstanbul'da ılık bir gün", "Привет, мир! Съешь же ещё этих мягких булок.", "Ελληνικά και πολυτονικό: ᾠδή, ἀρχή", "Հայերեն տեքստ", "ქართული ენა",
    "你好，世界！今天天气很好。", "日本語のテキストとカタカナ、ｆｕｌｌｗｉｄｔｈ１２３", "한국어 텍스트입니다.", "ไทยภาษาไม่มีช่องว่าง", "Tiếng Việt có nhiều dấu: ẩn, ữ, ợ",
    "مرحبا بالعالم، كيف حالك؟", "שָׁלוֹם עולם", "हिन्दी में लिखा हुआ पाठ", "বাংলা লেখা", "தமிழ் உரை", "తెలుగు", "ಕನ್ನಡ", "മലയാളം", "සිංහල", "ខ្មែរ", "မြန်မာ", "አማርኛ", "ᏣᎳᎩ", "ᐃᓄᒃᑎᑐᑦ",
    "e\u0301 n\u0303 A\u030a o\u0308\u0304 \u1100\u1161\u11a8 \u0958 \u2126 \ufb01", "😀👍🏽👨\u200d👩\u200d👧🏳️\u200d🌈🇫🇷🇩🇪 1️⃣", "𝔘𝔫𝔦 𝟘𝟙𝟚 𐍈 𠮷野家", "½ ¾ ²³ Ⅷ №5 ٠١٢٣ ०१२३",
    "def add(a, b):\n    return a + b\n", "for (int i = 0; i < n; i++) {\r\n\tsum += a[i];\r\n}\n", "x = {'a': [1, 2, 3], \"b\": None}  # comment", "https://example.org/a?b=c&d=%20#e",
    "<s> </s> <unk> <|im_start|>user\nHello<|im_end|>\n<|endoftext|>", "▁already▁marked ▁ ▁▁", "<0x41><0xE2> <0x0A>", "\t\ttabs  and   spaces    \n\n\n", "a\u00a0b\u2003c\u3000d\u200be\u2028f\u0085g",
]

def corpus(tree):
    """Lines of the repository's text files, in the order of their names, and the phrases above."""
    lines = []
    for folder in ("daemons", "docs", "lib", "proto", "tests"):
        for path, folders, names in os.walk(f"{tree}/{folder}"):
            folders.sort()
            for name in sorted(names):
                if name.endswith((".c", ".h", ".py", ".md", ".sh", ".proto", ".8", ".conf")) or name == "heldout.jsonl":
                    with open(f"{path}/{name}", encoding="utf-8", newline="") as f:
                        lines += [json.loads(line)["text"] if name.endswith("jsonl") else line for line in f]
    return lines + [p + "\n" for p in PHRASES] * 20

def added(content, **flags):
    return AddedToken(content, normalized=flags.pop("normalized", False), **flags)

FLAGS = [added("<mask>", lstrip=True, special=True), added("<right>", rstrip=True), added("<both>", lstrip=True, rstrip=True), added("word", single_word=True),
         added("<Normal>", normalized=True), added("naïve", normalized=True, single_word=True), added("  "), added("    "), added("<|tool|>", special=True)]

def train(text, size, prepare, alphabet=(), special=(), **model):
    tok = Tokenizer(models.BPE(**model))
    prepare(tok)
    tok.train_from_iterator(text, trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(alphabet), special_tokens=list(special), show_progress=False,
                                                      limit_alphabet=400))
    return tok

def byte_level(text, size, pattern, special, prefix=False, normalizer=None, digits=None):
    def prepare(tok):
        if normalizer: tok.normalizer = normalizer
        end = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=pattern is None)
        tok.pre_tokenizer = end if pattern is None else pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(p), "isolated") for p in pattern] + ([digits] if digits else []) + [end])
        tok.decoder, tok.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    tok = train(text, size, prepare, sorted(pre_tokenizers.ByteLevel.alphabet()))
    tok.add_special_tokens([added(s, special=True) for s in special])
    return tok

def with_bos(tok, bos, eos=None, first=None):
    template = processors.TemplateProcessing(single=f"{bos} $A" + (f" {eos}" if eos else ""), pair=f"{bos} $A {bos}:1 $B:1",
                                             special_tokens=[(t, tok.token_to_id(t)) for t in (bos, eos) if t])
    tok.post_processor = processors.Sequence([first, template]) if first else template

def characters(text, size, prepare, byte_fallback=True, as_words=False, **model):
    """as_words: trained on words, as SentencePiece does it, so that hardly a token has a mark in its middle."""
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] * byte_fallback
    tok = train(text, size + 400, metaspace("always", True) if as_words else prepare, special=[added(s) for s in special], unk_token="<unk>", **model)
    if as_words:
        tok.pre_tokenizer = None
        prepare(tok)
    data = json.loads(tok.to_str())
    for token in data["added_tokens"]: token["special"] = True
    data["added_tokens"] = data["added_tokens"][:3]  # bytes are tokens of the model alone, as in Llama's file
    data["model"]["byte_fallback"] = byte_fallback
    return Tokenizer.from_str(json.dumps(data))

LLAMA_DECODER = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]

def llama2(tok):
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence(LLAMA_DECODER)

def metaspace(scheme, split, decoder=None):
    def prepare(tok):
        tok.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=split)
        tok.decoder = decoders.Sequence(decoder) if decoder else decoders.Metaspace("▁", prepend_scheme=scheme, split=split)
    return prepare

def legacy(tok):
    """The same with merges in the older spelling, "a b"."""
    data = json.loads(tok.to_str())
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    return data

def ignoring_merges(tok):
    """Words that no merge makes any more are tokens as they stand."""
    data = json.loads(tok.to_str())
    merges = data["model"]["merges"]
    data["model"]["merges"] = [m for i, m in enumerate(merges) if i % 7 != 3]
    data["model"]["ignore_merges"] = True
    return data

def kinds(text, size):
    """Name -> (tokenizer.json as a value); size is about how many tokens each gets."""
    chat = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    out = {}
    out["gpt2"] = legacy(byte_level(text, size, GPT2, ["<|endoftext|>"]))
    tok = byte_level(text, size, GPT2, ["<s>", "</s>"], prefix=True)
    tok.add_tokens(FLAGS)
    with_bos(tok, "<s>", "</s>")
    out["prefix"] = json.loads(tok.to_str())
    tok = byte_level(text, size, [LLAMA3], ["<|begin_of_text|>", "<|eot_id|>"])
    with_bos(tok, "<|begin_of_text|>", first=processors.ByteLevel(trim_offsets=False))
    out["llama3"] = ignoring_merges(tok)
    out["qwen2"] = json.loads(byte_level(text, size, [QWEN2], chat, normalizer=normalizers.NFC()).to_str())
    out["tekken"] = json.loads(byte_level(text, size, [TEKKEN], ["<s>", "</s>", "[INST]"]).to_str())
    out["deepseek"] = json.loads(byte_level(text, size, [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+"], ["<|begin|>"],
                                            digits=pre_tokenizers.Digits(individual_digits=True)).to_str())
    tok = characters(text, size, llama2, as_words=True, fuse_unk=True)
    with_bos(tok, "<s>")
    out["llama2"] = json.loads(tok.to_str())
    out["across"] = json.loads(characters(text, size, llama2, byte_fallback=False, fuse_unk=True).to_str())
    tok = characters(text, size, metaspace("first", False, LLAMA_DECODER), as_words=True, fuse_unk=True)
    tok.add_tokens([added("[INST]", special=True), added("[/INST]", special=True)])
    with_bos(tok, "<s>")
    out["mistral"] = json.loads(tok.to_str())
    tok = characters(text, size, metaspace("always", True), byte_fallback=False, fuse_unk=False)
    tok.add_tokens(FLAGS)
    with_bos(tok, "<s>", "</s>")
    out["metaspace"] = json.loads(tok.to_str())
    tok = characters(text, size, metaspace("never", True), byte_fallback=False, fuse_unk=True)
    tok.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("``", '"')])
    out["never"] = json.loads(tok.to_str())
    return out

# --- texts ---------------------------------------------------------------------------------------

LETTERS = [c for c in map(chr, range(0x110000)) if unicodedata.category(c)[0] in "LMNPSZ"]
BLOCKS = [[c for c in map(chr, range(a, b)) if unicodedata.category(c)[0] in "LMNS"] for a, b in (
    (0x41, 0x250), (0x250, 0x370), (0x370, 0x400), (0x400, 0x530), (0x530, 0x5ff), (0x600, 0x700), (0x900, 0x980), (0x980, 0xa00), (0xb80, 0xc00), (0xe00, 0xe80),
    (0x1000, 0x10a0), (0x10a0, 0x1100), (0x1100, 0x1200), (0x1200, 0x1380), (0x1780, 0x1800), (0x1e00, 0x2000), (0x3040, 0x3100), (0x4e00, 0x5200), (0x9f00, 0xa000),
    (0xac00, 0xb000), (0xf900, 0xfb00), (0x1d400, 0x1d800), (0x1f300, 0x1f700), (0x20000, 0x20100), (0x2f800, 0x2fa20))]
SPACES = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "\u00a0", "\u3000", "\u2009", "\u0085", "\u2028", "\x0b", "\x1c", "\u180e", ""]
GLUE = ["<s>", "</s>", "<unk>", "<mask>", "<right>", "<both>", "<Normal>", "word", "naïve", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "[INST]", "[/INST]", "▁", "▁▁",
        "'s", "'LL", "'ſ", "’t", "'\u212a", "_", "-", "``", "<0x0A>", "<|begin_of_text|>", "<", "Ġ", "Â", "'", "\u0301", "\u11a8", "0", "42", "١٢", ".", "...", "/", "//"]
MARKS = [chr(c) for c in range(0x300, 0x1f000) if unicodedata.combining(chr(c))] + [chr(c) for c in range(0x1161, 0x1200)]

# planes 0 to 3 and 14: the others have none but private characters
POINTS = [*range(0xd800), *range(0xe000, 0x40000), *range(0xe0000, 0xf0000)]
# learned from, so that a space joins the first byte of what follows where nothing splits them
SPACED = [f" {chr(c)}" for c in POINTS[::31]]

def sweep():
    """Every character, behind a letter, behind a space and before a digit: its properties, whatever the texts drawn have."""
    return ["".join(f"a{chr(c)} {chr(c)}1" for c in POINTS[i:i + 256]) for i in range(0, len(POINTS), 256)]

def texts(lines, count, seed=1):
    """count texts: stretches of the repository, words of many scripts, any characters, control characters, bytes."""
    rng = random.Random(seed)
    def words():
        block = rng.choice(BLOCKS)
        return "".join("".join(rng.choices(block, k=rng.randint(1, 8))) + rng.choice(SPACES) for _ in range(rng.randint(1, 9)))
    def stretch():
        at = rng.randrange(len(lines))
        return "".join(lines[at:at + rng.choice((1, 1, 1, 2, 5))])
    def glued():
        return "".join(rng.choice((rng.choice(GLUE), rng.choice(GLUE), rng.choice(SPACES), rng.choice(lines)[:rng.randint(0, 12)], rng.choice(PHRASES)[:rng.randint(0, 9)]))
                       for _ in range(rng.randint(1, 14)))
    def any_characters():
        return "".join(rng.choices(LETTERS, k=rng.randint(1, 24)))
    def later(): # than Unicode 14, and never
        return "".join(chr(rng.choice((rng.randrange(0x800, 0x3000), rng.randrange(0xa000, 0xac00), rng.randrange(0x10000, 0x1fc00), rng.randrange(0x2a000, 0x32400), 0x20, 0x31)))
                       for _ in range(rng.randint(1, 24)))
    def marked():
        return "".join(rng.choice(rng.choice((MARKS, MARKS, "aeoAEO각가\u1100\u0915", BLOCKS[15], LETTERS))) for _ in range(rng.randint(1, 14)))
    def control():
        return "".join(chr(rng.choice((rng.randrange(0x20), rng.randrange(0x80), rng.randrange(0x7f, 0xa1), 0x20, 0xfeff, 0x200b, 0x202e, 0xfffd, 0xffff, 0x10ffff)))
                       for _ in range(rng.randint(1, 30)))
    def any_bytes():
        return bytes(rng.choice((rng.randrange(256), rng.randrange(0xc2, 0xf5), rng.randrange(0x80, 0xc0))) for _ in range(rng.randint(1, 40))).decode("utf-8", rng.choice(("replace", "ignore")))
    makers = [stretch] * 4 + [words] * 4 + [glued] * 4 + [any_characters, later, marked, control, any_bytes] + [lambda: rng.choice(PHRASES)]
    return [rng.choice(makers)() for _ in range(count)]
