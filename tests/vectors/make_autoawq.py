"""Writes autoawq_layer.safetensors, autoawq_layer.json and qwen2_calib.json: AutoAWQ's own quantizer on the fixture.

Run:      $(../peers/venv.sh autoawq)/bin/python make_autoawq.py
Made by:  AutoAWQ 0.2.9, transformers 4.51.3, torch 2.6.0 (see README.md); CPU, float16

4 bit, group 128, zero point, GEMM, duo scaling, clipping; 6 blocks of 512 tokens from calibration.jsonl. All four
layers are quantized; written is the one (not layer 0) whose least decided scale search is the most decided, by
(second lowest loss) / (lowest loss) - 1. Tensor names are explained in autoawq_layer.json. The same searches are
repeated in float32 from the same inputs, so that a float32 reader knows where float16 alone decided.

One thing is repaired: _compute_best_scale keeps the original weights as `state_dict().items(): v.cpu()`, which on a GPU
is a copy but on the CPU the weights themselves. Its first `weight.mul_(scales)` then spoils them: every ratio but the
first is measured on W * s(0), and W * s(0) stays behind in the layer. Recorder hands it a copy, as a GPU would.
"""
import copy, json, os, shutil, tempfile
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from awq import AutoAWQForCausalLM
from awq.quantize.quantizer import AwqQuantizer
from awq.utils.calib_data import get_calib_dataset
from awq.utils.module import get_op_name
from safetensors.torch import save_file
from transformers import AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__)); FIXTURES = f"{HERE}/../fixtures"
BLOCKS, SEQ, GROUP = 6, 512, 128
ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # nibble i of a word holds column 8c + ORDER[i]
torch.set_num_threads(1)          # one order of summation

class Recorder(AwqQuantizer):
    layers = []
    def _get_input_feat(self, layer, named_linears):
        r = {"weight": {k: v.clone() for k, v in layer.state_dict().items()}, "input": self.inps.clone(), "groups": [],
             "kwargs": {k: list(v.shape) if isinstance(v, torch.Tensor) else [list(t.shape) for t in v] if isinstance(v, tuple) else v
                        for k, v in self.module_kwargs.items() if not hasattr(v, "get_seq_length")},
             "position_ids": self.module_kwargs["position_ids"].clone(), "attn": layer.self_attn.config._attn_implementation}
        Recorder.layers.append(r)
        feat = super()._get_input_feat(layer, named_linears)
        r["output"] = self.inps.clone()
        return feat
    def _search_best_scale(self, module, prev_op, layers, inp, module2inspect=None, kwargs={}):
        g = {"prev": get_op_name(module, prev_op), "linears": [get_op_name(module, m) for m in layers],
             "loss_on": get_op_name(module, module2inspect or layers[0])}
        Recorder.layers[-1]["groups"].append(g)
        return super()._search_best_scale(module, prev_op, layers, inp, module2inspect, kwargs)
    def _best_scale(self, x, w_mean, x_mean, module, linears, out, kwargs):
        plain = module.state_dict
        module.state_dict = lambda: {k: v.clone() for k, v in plain().items()}   # see above
        try: return super()._compute_best_scale(x, w_mean, x_mean, module, linears, out, kwargs)
        finally: del module.state_dict
    def _compute_best_scale(self, x, w_mean, x_mean, module2inspect, linears2scale, fp16_output, kwargs={}):
        g = Recorder.layers[-1]["groups"][-1]
        g["x_mean"], g["w_mean"] = x_mean.clone(), w_mean.clone()
        wide = copy.deepcopy(module2inspect).float()
        same = {id(a): b for a, b in zip(module2inspect.modules(), wide.modules())}
        wide_kwargs = {k: tuple(t.float() for t in v) if isinstance(v, tuple) else v for k, v in kwargs.items()}
        wide_out = self._module_forward(x.float(), wide, wide_kwargs)
        self.losses = []
        self._best_scale(x.float(), w_mean.float(), x_mean.float(), wide, [same[id(m)] for m in linears2scale], wide_out, wide_kwargs)
        g["losses_f32"], self.losses = self.losses, []
        g["scales"] = self._best_scale(x, w_mean, x_mean, module2inspect, linears2scale, fp16_output, kwargs)
        g["losses"] = self.losses
        for k, v in module2inspect.state_dict().items():
            assert any(torch.equal(v, u) for n, u in Recorder.layers[-1]["weight"].items() if n.endswith(k)), k  # restored
        return g["scales"]
    def _compute_loss(self, *args):
        loss = super()._compute_loss(*args)
        self.losses.append(loss)
        return loss
    def _compute_best_clip(self, w, input_feat, *args, **kwargs):
        best = super()._compute_best_clip(w, input_feat, *args, **kwargs)
        wide = super()._compute_best_clip(w.float(), input_feat.float(), *args, **kwargs)
        peak = w.float().view(w.shape[0], -1, GROUP).abs().amax(-1, keepdim=True)
        self.step16, self.step32 = ((1 - b.float() / peak).mul(20).round() for b in (best, wide))
        self.agree = (self.step16 == self.step32).float().mean().item()
        return best
    def _search_best_clip(self, layer, named_linears, input_feat):
        r = Recorder.layers[-1]; r["clip"], r["clip_agree"], r["clip_steps"] = {}, {}, {}
        out = []
        for name in named_linears:                       # one at a time, to know which linear is searched
            found = super()._search_best_clip(layer, {name: named_linears[name]}, input_feat)
            if found:
                r["clip"][name], r["clip_agree"][name] = found[0][1].squeeze(-1), self.agree
                r["clip_steps"][name] = [int((self.step16 == i).sum()) for i in range(10)]
            out += found
        return out
    def _apply_quant(self, module, named_linears):
        r = Recorder.layers[-1]; r["before"] = {}
        for name, linear in named_linears.items(): r["before"][name] = self.pseudo_quantize_tensor(linear.weight.data.half()) + (linear.weight.data.half(),)
        super()._apply_quant(module, named_linears)
        r["after"] = {k: v.clone() for k, v in module.state_dict().items()}

def unpack(words):  # [rows, cols/8] i32 -> [cols, rows] u8
    out = torch.zeros(words.shape[0], words.shape[1] * 8, dtype=torch.uint8)
    for i, column in enumerate(ORDER): out[:, column::8] = ((words >> (4 * i)) & 15).to(torch.uint8)
    return out.t().contiguous()

def decided(losses):
    best, second = sorted(losses)[:2]
    return second / best - 1

texts = [json.loads(l)["text"] for l in open(f"{FIXTURES}/calibration.jsonl")]
with tempfile.TemporaryDirectory() as tmp:
    shutil.copytree(f"{FIXTURES}/model", tmp, dirs_exist_ok=True)   # in the older spelling that transformers 4.51 reads
    for name, change in (("config.json", {"torch_dtype": "bfloat16", "rope_theta": 10000.0}), ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})):
        j = json.load(open(f"{tmp}/{name}"))
        json.dump(j | change, open(f"{tmp}/{name}", "w"))
    tok = AutoTokenizer.from_pretrained(tmp)
    calib16 = get_calib_dataset(data=texts, tokenizer=tok, n_samples=16, max_seq_len=SEQ)
    json.dump({"n_samples": 16, "max_seq_len": SEQ, "blocks": [b[0].tolist() for b in calib16]}, open(f"{HERE}/qwen2_calib.json", "w"))
    samples = next(n for n in range(1, 400) if len(get_calib_dataset(data=texts, tokenizer=tok, n_samples=n, max_seq_len=SEQ)) == BLOCKS)
    ids = torch.cat(get_calib_dataset(data=texts, tokenizer=tok, n_samples=samples, max_seq_len=SEQ))
    model = AutoAWQForCausalLM.from_pretrained(tmp, device_map="cpu", torch_dtype=torch.float16, safetensors=True)
    model.quantize(tok, {"zero_point": True, "q_group_size": GROUP, "w_bit": 4, "version": "GEMM"}, calib_data=texts,
                   max_calib_samples=samples, max_calib_seq_len=SEQ, quantizer_cls=Recorder)

best = {n: min(decided(g["losses"]) for g in r["groups"]) for n, r in enumerate(Recorder.layers)}
n = max((k for k in best if k), key=best.get)
r = Recorder.layers[n]
t = {"calib.input_ids": ids, "position_ids": r["position_ids"], "layer.input": r["input"], "layer.output_last8": r["output"][:, -8:]}
t |= {f"weight.{k}": v for k, v in r["weight"].items()}
t |= {f"clip.{k}": v for k, v in r["clip"].items()}
t |= {f"after.{k}": v for k, v in r["after"].items() if k.endswith("layernorm.weight") or k.endswith("bias")}
info = {"layer": n, "group_size": GROUP, "bits": 4, "zero_point": True, "version": "GEMM", "duo_scaling": True, "apply_clip": True,
        "calibration": {"file": "tests/fixtures/calibration.jsonl", "n_samples": samples, "max_seq_len": SEQ, "blocks": list(ids.shape),
                        "layout": "first n_samples texts, in order: strip(), encode, skip if longer than max_seq_len or empty; all ids concatenated "
                                  "without separators, split into blocks of max_seq_len, remainder dropped"},
        "attention": {"implementation": r["attn"], "causal": True, "batch": BLOCKS, "position_ids": "0..511 for each block, blocks independent", "kwargs": r["kwargs"]},
        "tensors": {"calib.input_ids": "all blocks", "layer.input": "hidden states entering the layer, from unquantized layers before it",
                    "layer.output_last8": "hidden states leaving the unquantized layer, positions 504..511 of each block", "weight.*": "the layer before anything, fp16 cast of the bf16 file",
                    "group.N.{x_mean,w_mean,scales}": "scale search N, in the order of groups below", "clip.LINEAR": "clip limit per output row and group, in scaled weights",
                    "after.*": "norm weights and biases after scaling", "codes.LINEAR": "[out,in], unpacked from qweight", "zeros.LINEAR, scales.LINEAR": "[out,groups]",
                    "packed.LINEAR.*": "as AutoAWQ writes it"},
        "groups": [], "clip": {}, "repacked_differently": {}, "smallest_margin_of_each_layer": best}
for i, g in enumerate(r["groups"]):
    for k in ("x_mean", "w_mean", "scales"): t[f"group.{i}.{k}"] = g[k].reshape(-1)
    info["groups"].append({k: g[k] for k in ("prev", "linears", "loss_on")} |
                          {"best_ratio": g["losses"].index(min(g["losses"])) / 20, "margin": decided(g["losses"]), "losses": g["losses"],
                           "best_ratio_f32": g["losses_f32"].index(min(g["losses_f32"])) / 20, "margin_f32": decided(g["losses_f32"]), "losses_f32": g["losses_f32"]})
for k in r["clip"]: info["clip"][k] = {"rows_and_groups_by_step": r["clip_steps"][k], "same_step_in_f32": r["clip_agree"][k]}
for k, (_, scales, zeros, w) in r["before"].items():
    packed = {x: r["after"][f"{k}.{x}"] for x in ("qweight", "qzeros", "scales")}
    codes = unpack(packed["qweight"])
    t |= {f"codes.{k}": codes, f"zeros.{k}": unpack(packed["qzeros"]), f"scales.{k}": packed["scales"].t().contiguous()}
    t |= {f"packed.{k}.{x}": v for x, v in packed.items()}
    assert torch.equal(t[f"zeros.{k}"], zeros.to(torch.uint8)) and torch.equal(t[f"scales.{k}"], scales)
    first = torch.clamp(torch.round(w.view(-1, GROUP) / scales.view(-1, 1)) + zeros.view(-1, 1), 0, 15).to(torch.uint8).view_as(codes)
    info["repacked_differently"][k] = int((first != codes).sum())
save_file({k: v.contiguous().clone() for k, v in sorted(t.items())}, f"{HERE}/autoawq_layer.safetensors")
json.dump(info, open(f"{HERE}/autoawq_layer.json", "w"), indent=1)
print(json.dumps({k: info[k] for k in ("layer", "groups", "clip", "repacked_differently", "smallest_margin_of_each_layer")}))
