"""logits.py REPO VECTORS: transformers, on REPO as downloaded, gives the vectors that lib/engine is tested against."""
import sys, torch, transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

repo, vectors = sys.argv[1], load_file(sys.argv[2])
torch.set_num_threads(1)
net = AutoModelForCausalLM.from_pretrained(repo, dtype=torch.bfloat16, attn_implementation="eager").eval().float()
with torch.no_grad():
    logits = net(vectors["input_ids"]).logits[0]
worst = (logits - vectors["logits"]).abs().max().item()
same = int((logits.argmax(-1) == vectors["logits"].argmax(-1)).sum())
assert worst <= 1e-2 and same >= 256, (worst, same)
print(f"transformers {transformers.__version__}: largest difference {worst:.2e}, top-1 equal on {same} of {len(logits)}")
