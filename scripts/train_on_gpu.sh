#!/usr/bin/env bash
# Train the shipped recipe on a GPU that is there for minutes and reaches nothing.
#   python -m fingerprint.lab pack --corpus data/corpus --output data/packs   # here, once
#   scripts/train_on_gpu.sh data/packs runs/default 8                         # there
# It stops after so many minutes (8) with a checkpoint, in parts of 15 MB that are easy to send back;
# with them in the folder of the run, the same command goes on from there.
set -euo pipefail
packs=$1 run=$2 minutes=${3:-8}
cd "$(dirname "$0")/.."
mkdir -p "$run"
if ls "$run"/checkpoint.part-* >/dev/null 2>&1; then
  cat "$run"/checkpoint.part-* >"$run/checkpoint.pt"
fi
python3 -m fingerprint train configs/default.yaml --packs "$packs" --output "$run" \
  --device cuda --minutes "$minutes" ${STEPS:+--steps "$STEPS"}
rm -f "$run"/checkpoint.part-*
split --bytes 15M "$run/checkpoint.pt" "$run/checkpoint.part-"
rm "$run/checkpoint.pt"
