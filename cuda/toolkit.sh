#!/bin/sh
# toolkit.sh: prints the folder of the CUDA toolkit that `make CUDA=1` builds with: the system's
# (CUDA_HOME, nvcc on the PATH, /usr/local/cuda), else the packages of toolkit.txt, which are installed
# on first use.
#
# As tests/peers/venv.sh: the stamp .ready, written last, tells a whole installation from the remains
# of an interrupted one, and a lock lets one build at a time.
set -eu
[ $# = 0 ] || { echo "usage: toolkit.sh" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)

if [ -n "${CUDA_HOME:-}" ]; then
	[ -x "$CUDA_HOME/bin/nvcc" ] || { echo "CUDA_HOME: no bin/nvcc in $CUDA_HOME" >&2; exit 1; }
	echo "$CUDA_HOME"
	exit 0
fi
if nvcc=$(command -v nvcc); then
	dirname "$(dirname "$(readlink -f "$nvcc")")"
	exit 0
fi
if [ -x /usr/local/cuda/bin/nvcc ]; then
	echo /usr/local/cuda
	exit 0
fi

hash=$(cat "$here/toolkit.txt" "$0" | sha256sum | cut -c1-10)
cache=${SALLYPORT_CACHE:-$HOME/.cache/sallyport}
venv=$cache/cuda-$hash
if [ ! -f "$venv/.ready" ]; then
	mkdir -p "$cache"
	trap 'rc=$?; [ $rc = 0 ] || echo "toolkit.sh: CUDA could not be installed: see above" >&2; exit $rc' EXIT
	# no condition around it: within one, a command that fails does not end it
	(
		exec 9>"$venv.lock"; flock 9
		[ -f "$venv/.ready" ] && exit 0        # another run installed it while we waited
		python3 -c 'import venv, ensurepip' || { echo "python3-venv is missing"; exit 1; }
		rm -rf "$venv"
		python3 -m venv "$venv"
		"$venv/bin/pip" install --quiet --no-input --no-deps --no-compile --require-hashes \
			--disable-pip-version-check -r "$here/toolkit.txt"
		# where nvcc looks for them whatever the version of Python
		(cd "$venv" && ln -s lib/python3*/site-packages/nvidia/cu13 cuda)
		[ -x "$venv/cuda/bin/nvcc" ]
		touch "$venv/.ready"
	) >&2
fi
echo "$venv/cuda"
