"""awq_logits.py READER DIR PROMPTS ANSWERS ORIGINAL: DIR, as read by code that is not ours and run by transformers
in fp32, tokenizes and computes as our engine does, and close to the model that DIR was made of. ANSWERS is what
sp-greedy wrote about DIR and the prompts; ORIGINAL, about that model: two that read alike would not notice
that what was written is wrong.

READER autoawq: the codes dequantized by AutoAWQ. READER converter: DIR made a directory of compressed-tensors by its
AutoAWQConverter, and that loaded by transformers as any other."""
import json, os, sys, tempfile, warnings
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.simplefilter("ignore", DeprecationWarning)  # AutoAWQ says that it is no longer maintained
import torch, transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

LIMIT = 1e-2


def autoawq(top):
    import awq
    from awq.utils.packing_utils import dequantize_gemm
    with open(f"{top}/config.json") as f:
        config = json.load(f)
    how = config.pop("quantization_config")
    # transformers 4 knows but these places
    if "rope_parameters" in config:
        config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    if "num_local_experts" in config:
        config["num_experts"] = config["num_local_experts"]
    net = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), torch_dtype=torch.float32,
                                           attn_implementation="eager").eval()
    state = load_file(f"{top}/model.safetensors")
    modules = [name.removesuffix(".qweight") for name in state if name.endswith(".qweight")]
    for module in modules:
        codes, zeros, scales = (state.pop(f"{module}.{part}") for part in ("qweight", "qzeros", "scales"))
        # scales as fp32: in fp16 it would round each product
        weight = dequantize_gemm(codes, zeros, scales.float(), how["bits"], how["group_size"])
        state[f"{module}.weight"] = weight.T.contiguous()
    if config["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    net.load_state_dict({name: tensor.float() for name, tensor in state.items()})  # all of them, no others
    return net, "AutoAWQ", f"{awq.__version__}, {len(modules)} modules"


def converter(top):
    import compressed_tensors
    from compressed_tensors.entrypoints.convert import convert_checkpoint
    from compressed_tensors.entrypoints.convert.converters import AutoAWQConverter
    with tempfile.TemporaryDirectory() as out:
        convert_checkpoint(top, out, AutoAWQConverter.from_pretrained(top))
        with open(f"{out}/config.json") as f:
            assert json.load(f)["quantization_config"]["quant_method"] == "compressed-tensors"
        packed = sum(name.endswith(".weight_packed") for name in load_file(f"{out}/model.safetensors"))
        assert packed > 0
        net = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager").eval()
    return net, "compressed-tensors", f"{compressed_tensors.__version__}, {packed} modules"


read, top, prompts = {"autoawq": autoawq, "converter": converter}[sys.argv[1]], sys.argv[2], sys.argv[3]
ours, original = load_file(sys.argv[4]), load_file(sys.argv[5])
torch.set_num_threads(1)
net, reader, version = read(top)
mixture = any(getattr(net.config, name, None) for name in ("num_experts", "num_local_experts"))
# the mixtures are random models: a near tie between two experts sends a token elsewhere
DIVERGENCE_MAX = 0.2 if mixture else 0.02
tokenizer = Tokenizer.from_file(f"{top}/tokenizer.json")
with open(prompts, encoding="utf-8") as f:
    texts = [json.loads(line)["text"] for line in f]
worst, turned, divergence, at = 0.0, [], 0.0, 0
for text, length in zip(texts, ours["lengths"].tolist(), strict=True):
    ids, logits = ours["ids"][at:at + length], ours["logits"][at:at + length]
    assert tokenizer.encode(text).ids == ids.tolist(), text
    with torch.no_grad():
        theirs = net(ids[None].long()).logits[0]
    worst = max(worst, (theirs - logits).abs().max().item())
    best = theirs.topk(2).values
    other = theirs.argmax(-1) != logits.argmax(-1)
    turned += (best[:, 0] - best[:, 1])[other].tolist()
    # Kullback-Leibler, from the original
    was, now = (x.double().log_softmax(-1) for x in (original["logits"][at:at + length], theirs))
    divergence += (was.exp() * (was - now)).sum().item()
    at += length
divergence /= at
print(f"{reader} {version}, transformers {transformers.__version__}: {net.config.model_type}; {at} tokens, largest difference "
      f"{worst:.1e}, another top-1 at {len(turned)}; divergence from the original {divergence:.5f} nat a token")
if worst > LIMIT or max(turned, default=0) > 2 * LIMIT:
    sys.exit(f"{top}: {reader} and our engine read it differently: logits by up to {worst:.3g}, {LIMIT} is allowed")
if divergence > DIVERGENCE_MAX:
    sys.exit(f"{top}: it is not the model it was made of: {divergence:.3g} nat a token, {DIVERGENCE_MAX} is allowed")
