"""sabotage.py DIR OUT: a copy of a quantized checkpoint in which one module's first two groups of inputs have each
other's scales. Whoever compares DIR with another reading of it must find OUT out."""
import json, shutil, struct, sys

source, out = sys.argv[1:]
shutil.copytree(source, out)
with open(f"{out}/model.safetensors", "r+b") as f:
    size = struct.unpack("<Q", f.read(8))[0]
    header = json.loads(f.read(size))
    name = next(name for name in sorted(header) if name.endswith("mlp.down_proj.scales"))
    groups, columns = header[name]["shape"]
    assert groups >= 2 and header[name]["dtype"] == "F16", header[name]
    f.seek(8 + size + header[name]["data_offsets"][0])
    first, second = f.read(2 * columns), f.read(2 * columns)
    assert first != second, name
    f.seek(-4 * columns, 1)
    f.write(second + first)
print(f"sabotaged: groups 0 and 1 of {name} have each other's scales")
