"""Writes autoawq_f32.safetensors: AutoAWQ's own quantizer in float32 on a layer of the fixture.

Run:      $(../peers/venv.sh autoawq)/bin/python make_autoawq_f32.py [BLOCKS LAYER... DIR]
Made by:  AutoAWQ 0.2.9, transformers 4.51.3, torch 2.6.0 (see README.md); CPU, float32

4 bit, group 128, zero point, GEMM, duo scaling, clipping; 2 blocks of 512 tokens from calibration.jsonl, layer 2. With
arguments: so many blocks, these layers, into DIR/layer-N.safetensors (make peers). Tensors: layer.input [tokens, hidden]
f32, of the layer that layer [1] i32 says; group.N.scales f32 and group.N.losses f64 [20] of its scale searches in the order of awq/block.h; LINEAR.qweight,
.qzeros, .scales as AutoAWQ packs them. The weights are the fixture's own.

The fault of AutoAWQ 0.2.9 on a CPU that make_autoawq.py tells of is repaired here in the same way.
"""
import json, os, shutil, sys, tempfile
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from awq import AutoAWQForCausalLM
from awq.quantize.quantizer import AwqQuantizer
from awq.utils.calib_data import get_calib_dataset
from safetensors.torch import save_file
from transformers import AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__)); FIXTURES = f"{HERE}/../fixtures"
SEQ, GROUP = 512, 128
BLOCKS, WANTED, DIR = (int(sys.argv[1]), [int(a) for a in sys.argv[2:-1]], sys.argv[-1]) if len(sys.argv) > 1 else (2, [2], None)
torch.set_num_threads(int(os.environ.get("THREADS", "1")))

class Recorder(AwqQuantizer):
    layers = []
    def _get_input_feat(self, layer, named_linears):
        Recorder.layers.append({"layer": layer, "input": self.inps.reshape(-1, self.inps.shape[-1]).clone(), "groups": []})
        return super()._get_input_feat(layer, named_linears)
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

def tensors(n, r):
    t = {"layer": torch.tensor([n], dtype=torch.int32), "layer.input": r["input"]}
    for i, (scales, losses) in enumerate(r["groups"]):
        t |= {f"group.{i}.scales": scales.float().reshape(-1), f"group.{i}.losses": torch.tensor(losses, dtype=torch.float64)}
    t |= {k: v.half() if k.endswith("scales") else v for k, v in r["after"].items()}
    return {k: v.contiguous().clone() for k, v in sorted(t.items())}

texts = [json.loads(l)["text"] for l in open(f"{FIXTURES}/calibration.jsonl")]
with tempfile.TemporaryDirectory() as tmp:
    shutil.copytree(f"{FIXTURES}/model", tmp, dirs_exist_ok=True)   # in the older spelling that transformers 4.51 reads
    for name, change in (("config.json", {"torch_dtype": "bfloat16", "rope_theta": 10000.0}), ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})):
        j = json.load(open(f"{tmp}/{name}"))
        json.dump(j | change, open(f"{tmp}/{name}", "w"))
    tok = AutoTokenizer.from_pretrained(tmp)
    samples = next(n for n in range(1, 1200) if len(get_calib_dataset(data=texts, tokenizer=tok, n_samples=n, max_seq_len=SEQ)) == BLOCKS)
    model = AutoAWQForCausalLM.from_pretrained(tmp, device_map="cpu", torch_dtype=torch.float32, safetensors=True)
    assert next(model.model.parameters()).dtype == torch.float32
    model.quantize(tok, {"zero_point": True, "q_group_size": GROUP, "w_bit": 4, "version": "GEMM"}, calib_data=texts,
                   max_calib_samples=samples, max_calib_seq_len=SEQ, quantizer_cls=Recorder)
for n in WANTED:
    path = f"{DIR}/layer-{n}.safetensors" if DIR else f"{HERE}/autoawq_f32.safetensors"
    save_file(tensors(n, Recorder.layers[n]), path)
    print(path, [l.index(min(l)) for _, l in Recorder.layers[n]["groups"]])
