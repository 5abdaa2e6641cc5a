"""vllm_greedy.py DIR PROMPTS ANSWERS ORIGINAL: vLLM serves DIR and continues the prompts with the tokens that
our engine chooses, unless two of them were as good as equal; most begin as the model that DIR was made of has
it. ANSWERS is what sp-greedy wrote about DIR and the prompts; ORIGINAL, about that model."""
import json, sys
import vllm
from safetensors.numpy import load_file
from vllm import LLM, SamplingParams

NEAR_NAT = 0.05
if __name__ == "__main__":
    top, prompts, ours, original = sys.argv[1], sys.argv[2], load_file(sys.argv[3]), load_file(sys.argv[4])
    with open(prompts, encoding="utf-8") as f:
        texts = [json.loads(line)["text"] for line in f]
    steps = ours["greedy"].shape[1]
    assert steps >= 32 and len(texts) >= 20, (steps, len(texts))
    llm = LLM(model=top, max_model_len=512, enforce_eager=True)
    how = llm.llm_engine.vllm_config.model_config.quantization
    assert "awq" in how, how
    answers = llm.generate(texts, SamplingParams(temperature=0, max_tokens=steps, ignore_eos=True))
    equal, at, near, far = 0, 0, [], []
    for answer, length, greedy, margins in zip(answers, ours["lengths"], ours["greedy"], ours["margins"], strict=True):
        assert list(answer.prompt_token_ids) == ours["ids"][at:at + length].tolist(), answer.prompt
        at += length
        theirs = answer.outputs[0].token_ids
        assert len(theirs) == steps, theirs
        # behind the first difference, the texts are others
        first = next((i for i in range(steps) if theirs[i] != greedy[i]), None)
        if first is None:
            equal += 1
        else:
            (near if margins[first] < NEAR_NAT else far).append(f"{first}: {margins[first]:.4f}")
    print(f"vLLM {vllm.__version__}, quantization {how}: {equal} of {len(texts)} prompts continued with the same "
          f"{steps} tokens; others from token: nats of margin on: {near + far}")
    begins = sum(a.outputs[0].token_ids[0] == g[0] for a, g in zip(answers, original["greedy"], strict=True))
    print(f"{begins} of {len(texts)} begin with the original model's token")
    assert not far, far
    assert begins >= 0.75 * len(texts), begins
