"""autoawq.py -- AutoAWQ 0.2.9 on the CPU, in its own environment (tests/peers/venv.sh autoawq).

autoawq.py shape DIR TOKENIZER_DIR   two layers of Qwen2.5-0.5B's shape with random weights
autoawq.py run MODEL TEXTS.jsonl SAMPLES DTYPE [OUT]
                                     prints the seconds of quantize() alone: no loading, no writing
autoawq.py round MODEL OUT           no search at all: linear layers as AutoAWQ's pseudo_quantize_tensor rounds
                                     them (4 bits, a zero point and an fp16 scale for each 128), in fp32
"""
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
SHAPE = {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2,
         "num_hidden_layers": 2, "max_position_embeddings": 1024, "tie_word_embeddings": True}


def shape(out, tokenizer):
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2ForCausalLM
    torch.manual_seed(1)
    source = json.loads(pathlib.Path(tokenizer, "config.json").read_text())
    config = Qwen2Config(vocab_size=source["vocab_size"], rope_theta=10000.0, **SHAPE)
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    out.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(pathlib.Path(tokenizer, name), out / name)
    source.pop("layer_types")  # one for each of the source's own layers
    (out / "config.json").write_text(json.dumps(source | SHAPE))
    tensors = {k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def run(source, texts, samples, dtype, out=None):
    import torch
    from awq import AutoAWQForCausalLM
    from transformers import AutoTokenizer
    texts = [json.loads(line)["text"] for line in open(texts)]
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copytree(source, tmp, dirs_exist_ok=True)  # in the older spelling that transformers 4.51 reads
        for name, change in (("config.json", {"torch_dtype": "bfloat16", "rope_theta": 10000.0}),
                             ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})):
            path = pathlib.Path(tmp, name)
            path.write_text(json.dumps(json.loads(path.read_text()) | change))
        tokenizer = AutoTokenizer.from_pretrained(tmp)
        model = AutoAWQForCausalLM.from_pretrained(tmp, device_map="cpu", safetensors=True,
                                                   torch_dtype=getattr(torch, dtype))
    began = time.monotonic()
    model.quantize(tokenizer, {"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"},
                   calib_data=texts, max_calib_samples=int(samples), max_calib_seq_len=512)
    print(f"{time.monotonic() - began:.3f}")
    if out is not None:
        model.save_quantized(out)
        shutil.copy(pathlib.Path(source, "tokenizer.json"), out)


def rounded(weight, group=128, most=15):
    w = weight.float().reshape(-1, group)
    low, high = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    scale = (high - low).clamp(min=1e-5) / most
    zero = (-(low / scale).round()).clamp(0, most)
    code = ((w / scale).round() + zero).clamp(0, most)
    return ((code - zero) * scale.half().float()).reshape(weight.shape)


def round_to_nearest(source, out):
    from safetensors.torch import load_file, save_file
    tensors = load_file(pathlib.Path(source, "model.safetensors"))
    shutil.copytree(source, out)
    config = json.loads(pathlib.Path(out, "config.json").read_text())
    pathlib.Path(out, "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
    names = [name for name in tensors if name.endswith("_proj.weight")]
    assert len(names) == 7 * config["num_hidden_layers"], names
    save_file({name: rounded(t) if name in names else t.float() for name, t in tensors.items()},
              pathlib.Path(out, "model.safetensors"), metadata={"format": "pt"})


if sys.argv[1] == "shape":
    shape(pathlib.Path(sys.argv[2]), sys.argv[3])
elif sys.argv[1] == "round":
    round_to_nearest(*sys.argv[2:])
else:
    run(*sys.argv[2:])
