"""spoil.py MODEL OUT HOW [ARGUMENTS] -- a copy of a model with something wrong with it; for
quantize_hostile.sh, which tells what."""
import json
import os
import random
import shutil
import struct
import sys

SIZES = {"BF16": 2, "F16": 2, "F32": 4, "I16": 2, "I32": 4}


class Weights:
    def __init__(self, path):
        self.path = path
        with open(path, "rb") as f:
            size = struct.unpack("<Q", f.read(8))[0]
            self.header = json.loads(f.read(size))
            self.data = bytearray(f.read())
        self.header.pop("__metadata__", None)

    def write(self, path=None):
        text = json.dumps(self.header).encode()
        with open(path or self.path, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + self.data)

    def drop(self, name):
        """The tensor and its bytes."""
        begin, end = self.header.pop(name)["data_offsets"]
        del self.data[begin:end]
        for entry in self.header.values():
            if entry["data_offsets"][0] >= end:
                entry["data_offsets"] = [o - (end - begin) for o in entry["data_offsets"]]

    def add(self, name, dtype, shape, data):
        self.header[name] = {"dtype": dtype, "shape": shape,
                             "data_offsets": [len(self.data), len(self.data) + len(data)]}
        self.data += data


def merge(path, changes):
    with open(path, encoding="utf-8") as f:
        root = json.load(f)
    root.update(changes)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(root, f)


def resize(out, intermediate):
    """Another intermediate size, and weights of that size."""
    weights, rng = Weights(f"{out}/model.safetensors"), random.Random(1)
    with open(f"{out}/config.json", encoding="utf-8") as f:
        old = json.load(f)["intermediate_size"]
    merge(f"{out}/config.json", {"intermediate_size": intermediate})
    for name in [n for n in weights.header if ".mlp." in n]:
        shape = [intermediate if n == old else n for n in weights.header[name]["shape"]]
        weights.drop(name)
        values = (rng.choice((0x3c, 0xbc, 0x3d, 0xbd)) for _ in range(shape[0] * shape[1]))
        weights.add(name, "BF16", shape, b"".join(bytes((rng.randrange(256), v)) for v in values))
    weights.write()


def spoil_weights(out, how, args):
    weights = Weights(f"{out}/model.safetensors")
    first, second = sorted(weights.header.values(), key=lambda t: t["data_offsets"])[:2]
    if how == "overlap":
        size = first["data_offsets"][1] - first["data_offsets"][0]
        begin = second["data_offsets"][0] - size // 2
        second["data_offsets"] = [begin, begin + second["data_offsets"][1] - second["data_offsets"][0]]
    elif how == "hole":
        weights.data += b"\0" * 64
        last = max(weights.header.values(), key=lambda t: t["data_offsets"])
        last["data_offsets"] = [o + 64 for o in last["data_offsets"]]
    elif how == "dtype":
        weights.header[args[0]]["dtype"] = args[1]
    elif how == "drop":
        weights.drop(args[0])
    elif how == "add":
        weights.add(args[0], "BF16", [2, 2], b"\0" * 8)
    elif how == "value":
        at = weights.header[args[0]]["data_offsets"][0] + 2 * int(args[1])
        weights.data[at:at + 2] = bytes.fromhex(args[2])
    weights.write()


def main():
    model, out, how, *args = sys.argv[1:]
    shutil.copytree(model, out)
    path = f"{out}/model.safetensors"
    if how == "truncate":
        os.truncate(path, os.path.getsize(path) - int(args[0]))
    elif how == "header-beyond":
        with open(path, "r+b") as f:
            f.write(struct.pack("<Q", 1 << 26))
    elif how == "config":
        merge(f"{out}/config.json", json.loads(args[0]))
    elif how == "tokenizer":
        merge(f"{out}/tokenizer.json", json.loads(args[0]))
    elif how == "resize":
        resize(out, int(args[0]))
    elif how == "index":
        names = Weights(path).header
        os.rename(path, f"{out}/model-00001-of-00002.safetensors")
        with open(f"{out}/model.safetensors.index.json", "w", encoding="utf-8") as f:
            json.dump({"weight_map": {n: "model-00002-of-00002.safetensors" for n in names}}, f)
    elif how == "remove":
        os.unlink(f"{out}/{args[0]}")
    elif how == "write":
        with open(f"{out}/{args[0]}", "w", encoding="utf-8") as f:
            f.write(args[1])
    elif how == "link":
        os.rename(f"{out}/config.json", f"{out}/real.json")
        os.symlink("real.json", f"{out}/config.json")
    else:
        spoil_weights(out, how, args)


main()
