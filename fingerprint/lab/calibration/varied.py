"""Queries of every kind and length, by the thousand: a passage is degraded once and cut in parts.

The conditions of the table have fixed lengths; a confidence must hold between them. So lengths vary
from 0.75 to 10.6 s here, and unknown recordings are multiplied by shifting their pitch so far that
each makes new ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from fingerprint.lab.benchmark.conditions import (
    BEHIND_A_WALL,
    LITTLE,
    SNR_DB,
    TALKER_DB,
    Condition,
    Phone,
    Warp,
)
from fingerprint.lab.benchmark.made_up import KINDS, made_up
from fingerprint.lab.benchmark.material import WORKING_RATE, Material
from fingerprint.lab.benchmark.queries import Query, Truth, make_query
from fingerprint.types import Clip

PASSAGE = 22.5  # s
LENGTHS = (1.0, 2.0, 3.0, 5.0, 10.0)  # s of its parts, in any order
STRETCHED = (0.75, 1.06)  # times this
MADE_UP = (1.0, 12.0)  # s of sounds that are no music
NEW = Warp("pitch", (3.0, 7.0))  # semitones that make another recording of one

_PHONE = Phone()
# Families of the table, each as often as it stands here.
KNOWN: tuple[Condition, ...] = (
    Condition("clean", PASSAGE),
    Condition("noise", PASSAGE, SNR_DB),
    Condition("noise", PASSAGE, SNR_DB),
    Condition("phone", PASSAGE, SNR_DB, _PHONE),
    Condition("phone", PASSAGE, SNR_DB, _PHONE),
    Condition("phone at -5 dB", PASSAGE, (-5.0, -5.0), _PHONE),
    Condition("phone at -10 dB", PASSAGE, (-10.0, -10.0), _PHONE),
    Condition("speed", PASSAGE, (10.0, 10.0), None, Warp("speed", (0.02, 0.10))),
    Condition("pitch", PASSAGE, (10.0, 10.0), None, Warp("pitch", (1.0, 2.0))),
    Condition("tempo", PASSAGE, (10.0, 10.0), None, Warp("tempo", (0.05, 0.20))),
    Condition("speed by 10 to 30 %", PASSAGE, LITTLE, None, Warp("speed", (0.10, 0.30))),
    Condition("pitch by 2 to 4 semitones", PASSAGE, LITTLE, None, Warp("pitch", (2.0, 4.0))),
    Condition("tempo by 20 to 45 %", PASSAGE, LITTLE, None, Warp("tempo", (0.20, 0.45))),
    Condition("talker 6 to 12 dB above", PASSAGE, TALKER_DB, noise="talker"),
    Condition("through a wall", PASSAGE, SNR_DB, BEHIND_A_WALL, effect="wall"),
    Condition("noise suppression", PASSAGE, SNR_DB, _PHONE, effect="suppression"),
)
UNKNOWN: tuple[Condition, ...] = (
    Condition("clean", PASSAGE),
    Condition("noise", PASSAGE, SNR_DB),
    Condition("phone", PASSAGE, SNR_DB, _PHONE),
    Condition("clean, new pitch", PASSAGE, None, None, NEW),
    Condition("noise, new pitch", PASSAGE, SNR_DB, None, NEW),
    Condition("phone, new pitch", PASSAGE, SNR_DB, _PHONE, NEW),
)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A query cut from passage `number` of a family; parts of a passage are not independent."""

    family: str
    number: int
    clip: Clip
    truth: Truth


def parts(
    material: Material, condition: Condition, *, seed: int, number: int, sample_rate: int
) -> Iterator[Part]:
    """The parts of passage `number`: of all of `LENGTHS`, one after the other.

    A condition of another length than `PASSAGE`, such as those of the table, is left whole; one
    named for a kind of made-up sounds gives one of those.

    Raises:
        CorpusError: no track is long enough.
    """
    if condition.family in KINDS:
        rng = np.random.default_rng([seed, number, len(condition.family)])
        sound = made_up(condition.family, float(np.exp(rng.uniform(*np.log(MADE_UP)))), rng)
        samples = soxr.resample(sound, WORKING_RATE, sample_rate, quality="HQ")
        yield Part(condition.family, number, Clip(samples, sample_rate), Truth(Path(), 0.0, 1.0))
        return
    query: Query = make_query(
        material, condition, seed=seed, number=number, sample_rate=sample_rate
    )
    if condition.seconds != PASSAGE:
        yield Part(condition.name, number, query.clip, query.truth)
        return
    rng = np.random.default_rng([seed, number, len(condition.family)])
    lengths = rng.permutation(LENGTHS) * rng.uniform(*STRETCHED)
    begin = rng.uniform(0, max(0.0, query.clip.duration - float(lengths.sum())))
    for seconds in lengths:
        first = round(begin * sample_rate)
        samples = query.clip.samples[first : first + round(seconds * sample_rate)]
        offset = query.truth.offset + begin * query.truth.rate
        truth = Truth(query.truth.path, offset, query.truth.rate)
        yield Part(condition.family, number, Clip(samples, sample_rate), truth)
        begin += seconds
