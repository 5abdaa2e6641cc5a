#!/bin/bash
# stream_70b_rss_gib.sh -- a model of Llama-70B's shape (80 layers of 1.6 GiB, one of which is on the
# disk and stands for all) goes through calibration of 512 tokens. What is measured is VmHWM: the
# peak of the program's own memory and of all mapped pages of files together, the weights' among them.
#
# The peak is that of one layer, so the first STREAM_LAYERS (4) are run; STREAM_LAYERS=80 runs all,
# which takes ten seconds a layer and more on two processors.
set -euo pipefail
peak=$("$BIN/sp-bench-stream" "$BENCH_DIR" "${STREAM_LAYERS:-4}" 512)
printf '{"name":"stream_70b_rss_gib","unit":"GiB","better":"lower","limit":12,"ours":[%s]}\n' "$peak"
