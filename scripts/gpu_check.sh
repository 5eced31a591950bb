#!/usr/bin/env bash
# Check and measure a machine with one GPU, in at most eight minutes and without a network.
#   bash scripts/gpu_check.sh [--results FILE] [other options of benchmarks/gpu.py]
# Python packages that the machine lacks come from the folder wheels/ (WHEELS=FOLDER names another), filled beforehand:
#   pip download -d wheels --only-binary :all: -r requirements/run.txt -r requirements/train.txt
# ROS is not needed. PYTHON=FILE names another interpreter; its torch must be a CUDA build.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
WHEELS=${WHEELS:-wheels}
for package in numpy cv2:opencv-python-headless safetensors tokenizers huggingface_hub yaml:PyYAML typer rich tqdm psutil accelerate; do
    if ! "$PYTHON" -c "import ${package%%:*}" 2>/dev/null; then
        "$PYTHON" -m pip install --quiet --no-index --find-links "$WHEELS" "${package##*:}"
    fi
done
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec timeout 480 "$PYTHON" benchmarks/gpu.py "$@"
