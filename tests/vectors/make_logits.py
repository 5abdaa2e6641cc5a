"""Writes logits.safetensors: what transformers computes for the fixture model on held-out text.

Run:      $(../peers/venv.sh hf)/bin/python make_logits.py
Made by:  torch 2.13.0, transformers 5.23.0, safetensors 0.8.0 (see README.md)

  input_ids   I64 [1,T]     held-out documents in file order, <|endoftext|> after each, cut at T
  logits      F32 [T,2048]  weights as stored (bfloat16), all arithmetic in float32, eager attention
  top1_bf16   I64 [T]       argmax of the same forward pass computed in bfloat16
"""
import json, os, torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, Qwen2ForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__)); FIXTURES = f"{HERE}/../fixtures"; T = 304
torch.set_num_threads(1)  # one order of summation
tok = AutoTokenizer.from_pretrained(f"{FIXTURES}/model")
ids = []
for line in open(f"{FIXTURES}/heldout.jsonl"):
    ids += tok(json.loads(line)["text"], add_special_tokens=False)["input_ids"] + [tok.eos_token_id]
    if len(ids) >= T: break
ids = torch.tensor([ids[:T]])
net = Qwen2ForCausalLM.from_pretrained(f"{FIXTURES}/model", dtype=torch.bfloat16, attn_implementation="eager").eval()
with torch.no_grad():
    top1_bf16 = net(ids).logits[0].float().argmax(-1)
    logits = net.float()(ids).logits[0].contiguous()
assert logits.dtype == torch.float32 and logits.shape == (T, 2048)
save_file({"input_ids": ids, "logits": logits, "top1_bf16": top1_bf16}, f"{HERE}/logits.safetensors")
top2 = logits.topk(2).values
print(f"T {T}, top1 agrees in bf16 {int((top1_bf16 == logits.argmax(-1)).sum())}/{T}, "
      f"smallest top-1 margin in fp32 {(top2[:, 0] - top2[:, 1]).min():.6f}, range {logits.min():.3f}..{logits.max():.3f}")
