"""The named conditions under which recognition is measured.

A condition says how long a query is and what happens to it between the track and the recogniser;
`queries` draws one query after another from it. Numbers are in seconds, dB, Hz and semitones.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fingerprint.errors import ConfigError

Range = tuple[float, float]  # low, high

SNR_DB: Range = (0.0, 10.0)  # of the noise and phone conditions


@dataclass(frozen=True, slots=True)
class Warp:
    """A change of playback: by `amount` either way, the sign at random.

    `speed` changes tempo and pitch together (a share: 0.02 is 2 %), `tempo` keeps the pitch (a
    share), `pitch` keeps the tempo (semitones).
    """

    kind: Literal["speed", "pitch", "tempo"]
    amount: Range


@dataclass(frozen=True, slots=True)
class Phone:
    """What a room and a phone do to the sound before an app sends it off."""

    loudspeaker: float = 0.5  # share of queries whose music comes from a measured one
    room: bool = True
    low_cut: Range = (100.0, 400.0)  # Hz
    high_cut: Range = (3_000.0, 7_000.0)  # Hz
    eq_db: float = 5.0  # standard deviation of the smooth random response
    overload_db: Range | None = (0.0, 9.0)  # how far the highest peak would pass full scale
    opus_level: Range | None = (
        0.90,
        0.965,
    )  # libsndfile's compression: 33 to 16 kbit/s as measured


@dataclass(frozen=True, slots=True)
class Condition:
    """One row of the table: a family (a curve in the plots) at one query length."""

    family: str
    seconds: float
    snr_db: Range | None = None  # None: no noise
    phone: Phone | None = None
    warp: Warp | None = None
    unknown: bool = False  # cut from tracks that are not in the library

    @property
    def name(self) -> str:
        return f"{self.family} {self.seconds:g} s"


def _family(name: str, lengths: Iterable[float], **settings: object) -> tuple[Condition, ...]:
    return tuple(Condition(name, float(seconds), **settings) for seconds in lengths)  # type: ignore[arg-type]


CONDITIONS: tuple[Condition, ...] = (
    *_family("clean", (2, 5)),
    *_family("noise", (1, 2, 3, 5, 10), snr_db=SNR_DB),
    *_family("phone", (2, 3, 5, 10), snr_db=SNR_DB, phone=Phone()),
    *_family("phone at -5 dB", (5, 10), snr_db=(-5.0, -5.0), phone=Phone()),
    *_family("phone at -10 dB", (10,), snr_db=(-10.0, -10.0), phone=Phone()),
    *_family("speed", (5, 10), snr_db=(10.0, 10.0), warp=Warp("speed", (0.02, 0.10))),
    *_family("pitch", (5, 10), snr_db=(10.0, 10.0), warp=Warp("pitch", (1.0, 2.0))),
    *_family("tempo", (5, 10), snr_db=(10.0, 10.0), warp=Warp("tempo", (0.05, 0.20))),
    *_family("unknown clean", (5, 10), unknown=True),
    *_family("unknown noise", (5, 10), snr_db=SNR_DB, unknown=True),
    *_family("unknown phone", (5, 10), snr_db=SNR_DB, phone=Phone(), unknown=True),
)


def select(names: Iterable[str]) -> tuple[Condition, ...]:
    """The conditions of the given names, or of the given families, in the table's order.

    Raises:
        ConfigError: a name is neither a condition nor a family.
    """
    wanted = set(names)
    families = {condition.family for condition in CONDITIONS}
    if strange := wanted - families - {condition.name for condition in CONDITIONS}:
        known = ", ".join(sorted(families))
        raise ConfigError(
            f"no condition is called {sorted(strange)[0]!r}; families are {known}; "
            f"a single condition is called like {CONDITIONS[0].name!r}"
        )
    return tuple(c for c in CONDITIONS if {c.name, c.family} & wanted)
