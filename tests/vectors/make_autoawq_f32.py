"""Writes autoawq_f32.safetensors: AutoAWQ's own quantizer in float32 on a layer of the fixture.

Run:      $(../peers/venv.sh autoawq)/bin/python make_autoawq_f32.py [MODEL BLOCKS DIR]
Made by:  AutoAWQ 0.2.9, transformers 4.51.3, torch 2.6.0 (see README.md); CPU, float32, one thread

4 bit, group 128, zero point, GEMM, duo scaling, clipping; a block of 128 tokens from calibration.jsonl, layer 2. With
arguments (make peers): ../fixtures/MODEL, so many blocks of 512 tokens, every layer, into DIR/layer-N.safetensors.
Tensors: layer i32 [2], which layer and the tokens of a block; LINEAR.input [tokens, in] f32, what the first linear of
each scale search takes; group.N.scales f32 and group.N.losses f64 [20] of those searches in the order of awq/block.h;
LINEAR.qweight, .qzeros, .scales as AutoAWQ packs them. The weights are the fixture's own. Of PyTorch alone, without
arguments: sum.N [64] f32, sums of N rows of noise(N); duo.x, duo.w [256] f32 and duo.scales [20, 256], what
_compute_best_scale makes of such means, for each ratio k / 20.

The fault of AutoAWQ 0.2.9 on a CPU that make_autoawq.py tells of is repaired here in the same way. And PyTorch leaves
square roots to MKL, which takes another kernel on another processor; those seen are a neighbour of the right fp32 number
in 17 of 100 cases. All channel scales of a group are divided by one root, and of ratio 1/2 they are roots themselves, so
roots are correctly rounded here, as IEEE 754 has them, unless ROOTS=mkl is in the environment (roots i32 [1] is 1 then).
"""
import json, os, shutil, sys, tempfile
import numpy
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from awq import AutoAWQForCausalLM
from awq.quantize.quantizer import AwqQuantizer
from awq.utils.calib_data import get_calib_dataset
from safetensors.torch import save_file
from transformers import AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__)); FIXTURES = f"{HERE}/../fixtures"
GROUP = 128
MODEL, BLOCKS, SEQ, DIR = (sys.argv[1], int(sys.argv[2]), 512, sys.argv[3]) if len(sys.argv) > 1 else ("model", 1, 128, None)
torch.set_num_threads(int(os.environ.get("THREADS", "1")))

MKL = os.environ.get("ROOTS") == "mkl"
plain_pow = torch.Tensor.pow
def root(x): return torch.as_tensor(numpy.asarray(numpy.sqrt(x.numpy())))
if not MKL:
    torch.Tensor.sqrt = root
    torch.Tensor.pow = lambda x, y: root(x) if y == 0.5 else plain_pow(x, y)

class Recorder(AwqQuantizer):
    layers = []
    def _get_input_feat(self, layer, named_linears):
        feat = super()._get_input_feat(layer, named_linears)
        taken = {f"{k}.input": feat[k].reshape(-1, feat[k].shape[-1]).clone()
                 for k in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")}
        Recorder.layers.append({"taken": taken, "groups": []})
        return feat
    def _compute_best_scale(self, x, w_mean, x_mean, module2inspect, *args, **kwargs):
        self.losses = []
        plain = module2inspect.state_dict
        module2inspect.state_dict = lambda: {k: v.clone() for k, v in plain().items()}
        try: scales = super()._compute_best_scale(x, w_mean, x_mean, module2inspect, *args, **kwargs)
        finally: del module2inspect.state_dict
        Recorder.layers[-1]["groups"].append((scales.clone(), list(self.losses)))
        return scales
    def _compute_loss(self, *args):
        loss = super()._compute_loss(*args)
        self.losses.append(loss)
        return loss
    def _apply_quant(self, module, named_linears):
        super()._apply_quant(module, named_linears)
        r = Recorder.layers[-1]
        r["after"] = {k: v.clone() for k, v in module.state_dict().items() if k.split(".")[-1] in ("qweight", "qzeros", "scales")}

def noise(rows):   # whole numbers below 2^24 out of a multiplicative hash
    return ((torch.arange(rows * 64) * 2654435761 % 2**32) >> 8).float().reshape(rows, 64)

def of_torch():
    x, w = (noise(8) * 2.0**-24).reshape(2, 256) * torch.tensor([[20.0], [1.0]])
    duo = [x.pow(k / 20) / (w.pow(1 - k / 20) + 1e-4) for k in range(20)]
    return {f"sum.{n}": noise(n).sum(dim=0) for n in (15, 100, 4097, 70000)} | {
        "duo.x": x, "duo.w": w, "duo.scales": torch.stack([s / (s.max() * s.min()).sqrt() for s in (s.clamp(min=1e-4) for s in duo)])}

def tensors(n, r):
    t = {"layer": torch.tensor([n, SEQ], dtype=torch.int32), "roots": torch.tensor([int(MKL)], dtype=torch.int32)} | r["taken"]
    for i, (scales, losses) in enumerate(r["groups"]):
        t |= {f"group.{i}.scales": scales.float().reshape(-1), f"group.{i}.losses": torch.tensor(losses, dtype=torch.float64)}
    t |= {k: v.half() if k.endswith("scales") else v for k, v in r["after"].items()}
    return {k: v.contiguous().clone() for k, v in sorted(t.items())}

texts = [json.loads(l)["text"] for l in open(f"{FIXTURES}/calibration.jsonl")]
with tempfile.TemporaryDirectory() as tmp:
    shutil.copytree(f"{FIXTURES}/{MODEL}", tmp, dirs_exist_ok=True)   # in the older spelling that transformers 4.51 reads
    for name, change in (("config.json", {"torch_dtype": "bfloat16", "rope_theta": 10000.0}), ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})):
        j = json.load(open(f"{tmp}/{name}"))
        json.dump(j | change, open(f"{tmp}/{name}", "w"))
    tok = AutoTokenizer.from_pretrained(tmp)
    samples = next(n for n in range(1, 1200) if len(get_calib_dataset(data=texts, tokenizer=tok, n_samples=n, max_seq_len=SEQ)) == BLOCKS)
    model = AutoAWQForCausalLM.from_pretrained(tmp, device_map="cpu", torch_dtype=torch.float32, safetensors=True)
    assert next(model.model.parameters()).dtype == torch.float32
    model.quantize(tok, {"zero_point": True, "q_group_size": GROUP, "w_bit": 4, "version": "GEMM"}, calib_data=texts,
                   max_calib_samples=samples, max_calib_seq_len=SEQ, quantizer_cls=Recorder)
for n, r in enumerate(Recorder.layers):
    if DIR: save_file(tensors(n, r), f"{DIR}/layer-{n}.safetensors")
    elif n == 2: save_file(tensors(n, r) | of_torch(), f"{HERE}/autoawq_f32.safetensors")
    print("layer", n, "ratios", [l.index(min(l)) for _, l in r["groups"]])
