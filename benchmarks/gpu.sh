#!/usr/bin/env bash
# Runs gpu.py where nothing can be downloaded:
#
#     benchmarks/gpu.sh WHEELS [BACKEND [OPTION ...]]
#
# WHEELS is a folder with what gpu-requirements.txt lists, BACKEND jax (the default), torch or
# tensorflow; options are those of gpu.py. Packages that python3 has are used as they are, and only
# what is missing is installed, in an environment that is removed at the end.
set -euo pipefail
wheels=${1:?"usage: benchmarks/gpu.sh WHEELS [BACKEND [OPTION ...]]"}
backend=${2:-jax}
shift $(($# < 2 ? $# : 2))
benchmarks=$(dirname "$(realpath "$0")")
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
python3 -m venv --without-pip "$environment"
python="$environment/bin/python"
# Packages of the system would be those of what python3 was made from, where it is an environment, too.
python3 -c 'import sys; print(*(path for path in sys.path if path.endswith("-packages")), sep="\n")' \
    >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/machine.pth"
python3 -m pip --python "$python" install --quiet --disable-pip-version-check --no-compile \
    --no-index --find-links "$wheels" --requirement "$benchmarks/gpu-requirements.txt"
export KERAS_BACKEND=$backend
export PYTHONPATH=$(dirname "$benchmarks")${PYTHONPATH:+:$PYTHONPATH}
# Ctrl-C ends this script through it.
"$python" "$benchmarks/gpu.py" "$@"
