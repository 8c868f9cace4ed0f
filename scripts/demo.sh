#!/usr/bin/env bash
# The README's first command: install, index real music, name a noisy snippet of it.
#   scripts/demo.sh              with two hours of music from a Debian package
#   scripts/demo.sh ~/Music      with your own
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[ffmpeg,explain]'
music=${1:-}
if [ -z "$music" ]; then
  .venv/bin/python scripts/corpus.py --root data/demo --package wesnoth-1.16-music
  music=data/demo/audio
fi
export FINGERPRINT_LIBRARY=data/demo/library
.venv/bin/fingerprint index "$music" || [ $? -eq 1 ]  # 1: some files could not be read
.venv/bin/python -m fingerprint.lab snippet "$music" --output data/demo/snippet.wav
.venv/bin/fingerprint identify data/demo/snippet.wav
