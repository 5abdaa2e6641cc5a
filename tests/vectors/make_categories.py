"""Writes lib/model/pattern_later.h: characters that Unicode put in a general category after version 14.

Run:      $(../peers/venv.sh hf)/bin/python make_categories.py
Made by:  tokenizers 0.23.3 (its Oniguruma, Unicode 16) and Python 3.11's unicodedata (Unicode 14; see README.md)
"""
import os, unicodedata
from tokenizers import Regex, normalizers

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ["L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "Nd", "Nl", "No", "P", "S", "Z"]
assert unicodedata.unidata_version == "14.0.0"
points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]

def members(name):
    strip, left = normalizers.Replace(Regex(rf"\p{{{name}}}"), ""), set()
    for i in range(0, len(points), 4096):
        left.update(map(ord, strip.normalize_str("".join(map(chr, points[i:i + 4096])))))
    return {c for c in points if c not in left}

def ranges(later):
    out = []
    for c in sorted(later):
        if out and out[-1][1] == c - 1: out[-1][1] = c
        else: out.append([c, c])
    return "".join(rf"\\x{{{a:x}}}" + (rf"-\\x{{{b:x}}}" if b > a else "") for a, b in out)

with open(f"{HERE}/../../lib/model/pattern_later.h", "w") as f:
    f.write("""/* pattern_later.h -- what Unicode 15 and 16 added to the general categories, as parts of a
 * character class. PCRE2 10.42 knows Unicode 14, tokenizers 16.
 * Written by tests/vectors/make_categories.py. */
#ifndef SP_PATTERN_LATER_H
#define SP_PATTERN_LATER_H

/* clang-format off */
#define SP_PATTERN_LATER(X) \\
""")
    rows = []
    for name in NAMES:
        now, then = members(name), {c for c in points if unicodedata.category(chr(c)).startswith(name)}
        assert not then - now, name
        text, lines = ranges(now - then), []
        while text:
            cut = len(text) if len(text) <= 80 else text.rindex("\\\\", 0, 81)
            if text[cut - 1] == "-": cut = text.rindex("\\\\", 0, cut - 1)
            lines.append(f'"{text[:cut]}"'); text = text[cut:]
        rows.append(f'\tX("{name}", \\\n\t    ' + " \\\n\t    ".join(lines or ['""']) + ")")
    f.write(" \\\n".join(rows) + "\n/* clang-format on */\n\n#endif\n")
