#!/bin/bash
# prefill_vs_gemm.sh -- a whole decoder layer (norms, attention, products) over sequences of 512
# tokens, against OpenBLAS with the layer's seven products alone, on all processors: at the shape of
# Qwen2.5-0.5B (hidden 896) and at that of Llama-3-8B (hidden 4096). A ratio of 0.7 is wanted.
set -euo pipefail
# what OpenBLAS finds out by itself may have been set for another machine
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE OPENBLAS_NUM_THREADS OMP_NUM_THREADS

measure() { # NAME SEQUENCES HIDDEN INTERMEDIATE HEADS KV_HEADS HEAD_DIM
	local name=$1 ours=() rival=()
	shift
	for ((i = 0; i < BENCH_RUNS; i++)); do
		ours+=("$("$BIN/sp-bench-prefill" ours "$(nproc)" "$@")")
		rival+=("$("$BIN/sp-bench-prefill" blas "$(nproc)" "$@")")
	done
	printf '{"name":"%s","unit":"s","better":"lower","target":0.7,' "$name"
	printf '"rival":"OpenBLAS sgemm, the products alone",'
	printf '"ours":[%s],"rival_values":[%s]}\n' "$(IFS=,; echo "${ours[*]}")" \
		"$(IFS=,; echo "${rival[*]}")"
}

measure prefill_vs_gemm 4 896 4864 14 2 64
measure prefill_vs_gemm_4096 1 4096 14336 32 8 128
