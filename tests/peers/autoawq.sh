# Sourced by venv.sh after autoawq.txt: autoawq asks for other versions than it was last tested with.
pip install --no-deps autoawq==0.2.9
