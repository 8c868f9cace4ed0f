#!/usr/bin/env bash
# Train the shipped recipe on a GPU for some minutes, without a network.
#   python -m fingerprint.lab pack --corpus data/corpus --output data/packs   # at home, once
#   scripts/train_on_gpu.sh data/packs runs/default 10                        # on the GPU machine
# After the given minutes (10) it stops with a checkpoint a stage, split into parts of 15 MB that are
# easy to send back; with the parts in their folders, the same command resumes. What is trained is
# runs/default/fourth/model.pt.
set -euo pipefail
packs=$1 run=$2 minutes=${3:-10}
cd "$(dirname "$0")/.."
for first in "$run"/*/checkpoint.part-aa; do
  [ -e "$first" ] || continue
  cat "${first%aa}"* >"${first%part-aa}pt"
  rm "${first%aa}"*
done
python3 -m fingerprint train --packs "$packs" --output "$run" --device cuda --minutes "$minutes"
for whole in "$run"/*/checkpoint.pt; do
  split --bytes 15M "$whole" "${whole%pt}part-"
  rm "$whole"
done
