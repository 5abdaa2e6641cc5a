#!/usr/bin/env python3
"""The manual page sallyport.conf(5) lists the keys of lib/base/conf_keys.c and of the profiles, all of
them, in their order, with their defaults. Run from the repository's root."""
import pathlib
import re
import sys

KEY = re.compile(r'\{"([^"]+)",\s*\w+,\s*(NULL|"[^"]*"),')
ITEM = re.compile(r"^\.It Li (\S+)\n[^;]*; (?:default\n\.Li (.*) \.|no default\.)$", re.M)
PAGE = pathlib.Path("daemons/ledgerd/sallyport.conf.5")

want = []
for source in ("lib/base/conf_keys.c", "daemons/ledgerd/profile.c"):
    for key, default in KEY.findall(pathlib.Path(source).read_text(encoding="utf-8")):
        want.append((key, default.strip('"') if default != "NULL" else ""))
have = ITEM.findall(PAGE.read_text(encoding="utf-8"))
for item in want + have:
    if item not in want:
        print(f"{PAGE}: {item[0]} ({item[1] or 'no default'}) is not what the code has")
    elif item not in have:
        print(f"{PAGE}: lacks {item[0]} with {item[1] or 'no default'}")
if want != have:
    sys.exit(f"{PAGE}: {len(have)} keys, the code has {len(want)}, or their order differs")
