"""A sample of `python -m fingerprint.lab fuzz`: spoilt input to everything that reads input."""

import pytest
from hypothesis import given, settings

from fingerprint.lab.robustness.hostile_input import TARGETS, numbers


@pytest.mark.parametrize("target", TARGETS)
def test_spoilt_input_is_answered_or_refused_in_one_line(target: str) -> None:
    check, strategy = TARGETS[target]
    settings(max_examples=40)(given(strategy, numbers)(check))()
