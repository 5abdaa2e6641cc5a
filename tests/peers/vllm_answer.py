"""vllm_answer.py REPO: vLLM loads REPO from the local cache and answers."""
import os, sys
from huggingface_hub import snapshot_download
import vllm
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    path = snapshot_download(sys.argv[1], local_files_only=True)
    llm = LLM(model=path, max_model_len=1024, enforce_eager=True)
    text = llm.generate(["What is the capital of France?"], SamplingParams(temperature=0, max_tokens=8))[0].outputs[0].text
    assert "Paris" in text, text
    print(f"vLLM {vllm.__version__}: quantization {llm.llm_engine.vllm_config.model_config.quantization}, answers {text!r}")
