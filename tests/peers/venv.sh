#!/bin/sh
# venv.sh [--path] NAME: prints the path of the Python environment of the peer NAME, building it on
# first use. --path builds nothing: the environment is whole when it holds the file .ready.
#
# NAME.txt holds the pinned requirements, NAME.sh (optional) is sourced afterwards with pip on the PATH.
# An environment cannot be renamed once made, so a stamp (.ready, written last) tells a whole one from
# the remains of an interrupted build, and a lock lets one build at a time.
set -eu
build=1
[ "${1:-}" = --path ] && { build=0; shift; }
[ $# = 1 ] || { echo "usage: venv.sh [--path] NAME" >&2; exit 2; }
name=$1 here=$(cd "$(dirname "$0")" && pwd)
[ "$name" = lmeval ] && name=hf                # one environment holds transformers and lm-eval
[ -f "$here/$name.txt" ] || { echo "venv.sh: no $name.txt" >&2; exit 2; }
hook=/dev/null; [ -f "$here/$name.sh" ] && hook=$here/$name.sh
hash=$(cat "$here/$name.txt" "$hook" | sha256sum | cut -c1-10)
peers=${SALLYPORT_CACHE:-$HOME/.cache/sallyport}/peers
venv=$peers/$name-$hash
if [ $build = 1 ] && [ ! -f "$venv/.ready" ]; then
    mkdir -p "$peers"
    trap 'rc=$?; [ $rc = 0 ] || echo "venv.sh: $name could not be built" >&2; exit $rc' EXIT
    # no condition around it: within one, a command that fails does not end it
    (
        exec 9>"$venv.lock"; flock 9
        [ -f "$venv/.ready" ] && exit 0        # another run built it while we waited
        python=/usr/bin/python3
        "$python" -c 'import venv, ensurepip' 2>/dev/null || python=python3
        "$python" -c 'import venv, ensurepip' || { echo "python3-venv is missing"; exit 1; }
        rm -rf "$venv"
        "$python" -m venv "$venv"
        PATH=$venv/bin:$PATH
        export PIP_DISABLE_PIP_VERSION_CHECK=1
        pip install --quiet --upgrade pip==26.3
        pip install --quiet --no-input -r "$here/$name.txt"
        . "$hook"
        touch "$venv/.ready"
    ) >&2
fi
echo "$venv"
