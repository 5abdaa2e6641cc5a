"""make_arch.py FIXTURES VECTORS: tiny random models of every architecture, written by transformers,
and the logits that it computes with them.

FIXTURES/NAME is a checkpoint; VECTORS/NAME.safetensors holds input_ids [300], top1 [300] (argmax of
the logits) and logits [100][vocab] of every third position, from float32 arithmetic on the weights
as stored. Positions go far beyond what RoPE is stretched from. Weights are drawn wide, so that
attention looks somewhere and routers choose; of those drawn, the first that leaves no near tie.

Vocabulary 264: 256 bytes and 8 special tokens.
"""
import json, shutil, sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, LlamaConfig, MistralConfig, MixtralConfig, Qwen2Config,
                          Qwen3Config, Qwen3MoeConfig)

fixtures, vectors = Path(sys.argv[1]), Path(sys.argv[2])
TOKENS, VOCAB = 300, 264
common = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
              max_position_embeddings=512, bos_token_id=256, eos_token_id=257, rms_norm_eps=1e-5)
llama3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=128)
moe = dict(num_experts_per_tok=2, head_dim=32, num_key_value_heads=2, tie_word_embeddings=False)

# name: configuration, dtype as stored, and whether config.json is spelled as transformers 4 does
models = {
    "llama-llama3": (LlamaConfig(**common, num_key_value_heads=2, rope_parameters=llama3), torch.bfloat16, 0),
    "llama-linear": (LlamaConfig(**dict(common, intermediate_size=64), num_key_value_heads=4, attention_bias=True, mlp_bias=True,
                                 tie_word_embeddings=True,
                                 rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
                     torch.float32, 1),
    "mistral": (MistralConfig(**common, num_key_value_heads=2, head_dim=32, sliding_window=48), torch.float16, 1),
    "qwen2": (Qwen2Config(**common, num_key_value_heads=1, rope_parameters=yarn, tie_word_embeddings=True,
                          use_sliding_window=True, sliding_window=96, max_window_layers=1), torch.bfloat16, 0),
    "qwen3": (Qwen3Config(**common, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True,
                          attention_bias=True, rope_parameters=dict(yarn, attention_factor=1.25, beta_fast=16.0)),
              torch.bfloat16, 1),
    "qwen3-moe": (Qwen3MoeConfig(**common, **moe, num_experts=8, moe_intermediate_size=32, norm_topk_prob=True,
                                 mlp_only_layers=[0]), torch.bfloat16, 0),
    "qwen3-moe-raw": (Qwen3MoeConfig(**common, **moe, num_experts=4, moe_intermediate_size=32,
                                     norm_topk_prob=False, decoder_sparse_step=2), torch.float16, 1),
    "mixtral": (MixtralConfig(**dict(common, intermediate_size=32), **moe, num_local_experts=4), torch.bfloat16, 0),
}


def draw(net):
    """Gains near 1, small biases, matrices that keep a vector's size and a little more."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.ndim == 1 and name.endswith("bias"):
                p.normal_(0, 0.3)
            elif p.ndim == 1:
                p.uniform_(0.7, 1.3)
            elif "embed" in name:
                p.normal_(0, 1)
            else:
                p.normal_(0, 1.5 / p.shape[-1] ** 0.5)


def older(config):
    """config.json as transformers 4 spelled it."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope == {"rope_type": "default"} else rope
    config["torch_dtype"] = config.pop("dtype")
    if "num_local_experts" in config:
        config["num_experts"] = config.pop("num_local_experts")
    config["transformers_version"] = "4.51.3"
    return config


def write(where, config, dtype, old, sharded):
    net = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    draw(net)
    net.to(dtype).save_pretrained(where, **({"max_shard_size": "100KB"} if sharded else {}))
    (where / "generation_config.json").unlink(missing_ok=True)
    for file in where.iterdir():
        file.chmod(0o644)
    if old:
        text = json.loads((where / "config.json").read_text())
        (where / "config.json").write_text(json.dumps(older(text), indent=2, sort_keys=True) + "\n")


torch.set_num_threads(1)
vectors.mkdir(parents=True, exist_ok=True)
for name, (config, dtype, old) in models.items():
    where, seed, margin = fixtures / name, 0, 0.0
    while margin < 1e-3:
        torch.manual_seed(seed := seed + 1)
        shutil.rmtree(where, ignore_errors=True)
        write(where, config, dtype, old, name == "mixtral")
        net = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, attn_implementation="eager").eval().float()
        ids = torch.randint(0, VOCAB, (1, TOKENS))
        with torch.no_grad():
            logits = net(ids).logits[0]
        top = logits.topk(2).values
        margin = (top[:, 0] - top[:, 1]).min().item()
    assert torch.isfinite(logits).all()
    print(f"{name}: seed {seed}, logits up to {logits.abs().max():.2f}, smallest margin {margin:.1e}, "
          f"{sum(f.stat().st_size for f in where.iterdir())} bytes")
    save_file({"input_ids": ids[0], "top1": logits.argmax(-1), "logits": logits[2::3].contiguous()},
              vectors / f"{name}.safetensors")
