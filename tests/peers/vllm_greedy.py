"""vllm_greedy.py DIR PROMPTS ANSWERS ORIGINAL: vLLM serves DIR and continues the prompts with the tokens that
our engine chooses, unless two of them were as good as equal; most begin as the model that DIR was made of has
it. ANSWERS is what sp-greedy wrote about DIR and the prompts; ORIGINAL, about that model."""
import json, sys
import vllm
from greedy_judge import judge
from safetensors.numpy import load_file
from vllm import LLM, SamplingParams

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
    at = 0
    for answer, length in zip(answers, ours["lengths"], strict=True):
        assert list(answer.prompt_token_ids) == ours["ids"][at:at + length].tolist(), answer.prompt
        at += length
    wrong, line = judge([list(answer.outputs[0].token_ids) for answer in answers], ours, original)
    print(f"vLLM {vllm.__version__}, quantization {how}: {line}")
    sys.exit(wrong and f"{top}: vLLM and our engine read it differently: {wrong}")
