"""The recognisers that are compared: names, sources and settings."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fingerprint.errors import ConfigError
from fingerprint.lab.corpus.recordings import content_key


@dataclass(frozen=True, slots=True)
class System:
    """A recogniser and its settings.

    `worker` is a module of `fingerprint.lab.peers.workers`, which runs in an environment that holds
    `requirements` (none: this Python) and `bare`, packages without what they ask for: what is not
    used here, or cannot be built. It gets WAV files at `sample_rate` (Hz).
    """

    name: str
    title: str
    worker: str
    sample_rate: int
    requirements: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    program: str = ""  # that must be installed
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def settings_text(self) -> str:
        """The settings in words, for the table."""
        return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in self.settings.items())

    def key(self, tracks: Iterable[str]) -> str:
        """A short digest that names an index of these settings and tracks (their digests)."""
        return content_key(
            [self.worker, *self.bare, *self.requirements, json.dumps(dict(self.settings)), *tracks]
        )


AUDFPRINT = ("audfprint2==0.1.2", "numpy==2.4.6", "scipy==1.17.1")

SYSTEMS: tuple[System, ...] = (
    System(
        name="chromaprint",
        title="Chromaprint, sliding bit errors",
        worker="chromaprint",
        sample_rate=16_000,
        program="fpcalc",
        settings={"most_bit_errors": 0.35},
    ),
    System(
        name="audfprint",
        title="audfprint",
        worker="audfprint",
        sample_rate=11_025,
        requirements=AUDFPRINT,
        settings={"density": 20, "fanout": 3},
    ),
    System(
        name="audfprint-dense",
        title="audfprint, dense",
        worker="audfprint",
        sample_rate=11_025,
        requirements=AUDFPRINT,
        settings={"density": 70, "fanout": 8},
    ),
    System(
        name="audiolocate",
        title="audiolocate",
        worker="audiolocate",
        sample_rate=16_000,
        requirements=("audiolocate==0.1.1", "av==18.1.0", "numpy==2.4.6", "scipy==1.17.1"),
    ),
    System(
        name="dejavu",
        title="Dejavu",
        worker="dejavu",
        sample_rate=44_100,
        requirements=("matplotlib==3.9.4", "numpy==1.26.4", "pydub==0.25.1", "scipy==1.14.1"),
        bare=("PyDejavu-Rollong==0.1.6",),  # it asks for PortAudio and clients of two databases
    ),
)


def choose(names: Iterable[str]) -> tuple[System, ...]:
    """The systems of these names, in the order of the table; all for no names.

    Raises:
        ConfigError: there is no such system.
    """
    wanted, known = set(names), [system.name for system in SYSTEMS]
    if strange := wanted.difference(known):
        raise ConfigError(f"no peer is called {min(strange)!r}; there are {', '.join(known)}")
    return tuple(s for s in SYSTEMS if not wanted or s.name in wanted)
