"""A sample of `scripts/fuzz.py`: spoilt input to everything that reads input."""

import pytest
from hypothesis import given, settings
from ordeal.strangers import TARGETS, numbers


@pytest.mark.parametrize("target", TARGETS)
def test_spoilt_input_is_answered_or_refused_in_one_line(target: str) -> None:
    check, strategy = TARGETS[target]
    settings(max_examples=40)(given(strategy, numbers)(check))()
