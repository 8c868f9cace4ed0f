"""A sample of `python -m fingerprint.lab fuzz`: spoilt input to everything that reads input."""

import pytest
from hypothesis import given, settings

from fingerprint.audio.ffmpeg import pyav_installed
from fingerprint.lab.robustness.hostile_input import TARGETS, Damage, check_audio, numbers


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_input_is_answered_or_refused_in_one_line(target: str) -> None:
    check, strategy = TARGETS[target]
    settings(max_examples=40)(given(strategy, numbers)(check))()


@pytest.mark.skipif(not pyav_installed(), reason="needs PyAV")
def test_damaged_file_with_unannounced_streams() -> None:
    check_audio(Damage([(0.0007950748873104718, b"\x8e\xc7*\xe5")], 0.5, b"\x17\xb6R>"), 5962759)
