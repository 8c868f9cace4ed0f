#!/usr/bin/env bash
# The README's second command: make a virtual environment, install everything, run every check.
#   scripts/test.sh            the checks and the whole test suite
#   scripts/test.sh -k place   the checks, then pytest with these arguments
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[ffmpeg,serve,train,dev]'
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
.venv/bin/lint-imports
.venv/bin/python -m pytest "$@"
