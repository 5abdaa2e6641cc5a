"""logits.py REPO VECTORS [REPO VECTORS...]: transformers, on REPO as downloaded (or a directory), gives the vectors that
lib/engine is tested against: logits of every position, or top1 of every and logits of every third."""
import sys, torch, transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
for repo, name in zip(sys.argv[1::2], sys.argv[2::2]):
    vectors = load_file(name)
    net = AutoModelForCausalLM.from_pretrained(repo, dtype="auto", attn_implementation="eager").eval().float()
    with torch.no_grad():
        logits = net(vectors["input_ids"].reshape(1, -1)).logits[0]
    every = len(logits) // len(vectors["logits"])
    worst = (logits[every - 1::every] - vectors["logits"]).abs().max().item()
    top1 = vectors["top1"] if "top1" in vectors else vectors["logits"].argmax(-1)
    same = int((logits.argmax(-1) == top1).sum())
    assert worst <= 1e-2 and same >= 256, (repo, worst, same)
    print(f"transformers {transformers.__version__}: {repo.rpartition('/')[2]}: largest difference {worst:.2e}, "
          f"top-1 equal on {same} of {len(logits)}")
