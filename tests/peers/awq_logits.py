"""awq_logits.py DIR PROMPTS ANSWERS ORIGINAL: DIR, as read by AutoAWQ's own code and run by transformers in
fp32, tokenizes and computes as our engine does, and close to the model that DIR was made of. ANSWERS is what
sp-greedy wrote about DIR and the prompts; ORIGINAL, about that model: two that read alike would not notice
that what was written is wrong."""
import json, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # AutoAWQ says that it is no longer maintained
import awq, torch, transformers
from awq.utils.packing_utils import dequantize_gemm
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

LIMIT = 1e-2
top, prompts, ours, original = sys.argv[1], sys.argv[2], load_file(sys.argv[3]), load_file(sys.argv[4])
torch.set_num_threads(1)
with open(f"{top}/config.json") as f:
    config = json.load(f)
how = config.pop("quantization_config")
# transformers 4 knows but these places
if "rope_parameters" in config:
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
experts = config.get("num_experts") or config.get("num_local_experts")
if experts:
    config["num_experts"] = experts
# the mixtures are random models: a near tie between two experts sends a token elsewhere
DIVERGENCE_MAX = 0.2 if experts else 0.02
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
print(f"AutoAWQ {awq.__version__}, transformers {transformers.__version__}: {config['model_type']}, {len(modules)} "
      f"modules dequantized; {at} tokens, largest difference {worst:.1e}, another top-1 at {len(turned)}; divergence from the original {divergence:.5f} nat a token")
if worst > LIMIT or max(turned, default=0) > 2 * LIMIT:
    sys.exit(f"{top}: AutoAWQ and our engine read it differently: logits by up to {worst:.3g}, {LIMIT} is allowed")
if divergence > DIVERGENCE_MAX:
    sys.exit(f"{top}: it is not the model it was made of: {divergence:.3g} nat a token, {DIVERGENCE_MAX} is allowed")
