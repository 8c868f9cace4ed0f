#!/usr/bin/env bash
# Train the last stage of the shipped recipe on a GPU for some minutes, without a network.
#   python -m fingerprint.lab pack --corpus data/corpus --output data/packs   # at home, once
#   scripts/train_on_gpu.sh data/packs runs/default 8                         # on the GPU machine
# It starts from runs/default/sixth/last.pt. After the given minutes (8) it stops with a checkpoint,
# split into parts of 15 MB that are easy to send back; with the parts in the folder of the stage, the
# same command resumes.
set -euo pipefail
packs=$1 run=$2 minutes=${3:-8} stage=seventh
cd "$(dirname "$0")/.."
mkdir -p "$run/$stage"
if ls "$run/$stage"/checkpoint.part-* >/dev/null 2>&1; then
  cat "$run/$stage"/checkpoint.part-* >"$run/$stage/checkpoint.pt"
fi
python3 -m fingerprint train --stage "$stage" --packs "$packs" --output "$run" \
  --device cuda --minutes "$minutes" ${STEPS:+--steps "$STEPS"}
rm -f "$run/$stage"/checkpoint.part-*
split --bytes 15M "$run/$stage/checkpoint.pt" "$run/$stage/checkpoint.part-"
rm "$run/$stage/checkpoint.pt"
