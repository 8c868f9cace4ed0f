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
    """A change of playback: by `amount` either way, the sign at random unless there is one way.

    `speed` changes tempo and pitch together (a share: 0.02 is 2 %), `tempo` keeps the pitch (a
    share), `pitch` keeps the tempo (semitones). `share` of the queries are changed, the others are
    played as they are.
    """

    kind: Literal["speed", "pitch", "tempo"]
    amount: Range
    way: Literal["either", "up", "down"] = "either"
    share: float = 1.0


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


Effect = Literal[
    "hall",  # a program's reverberation
    "second track",  # of the library, about as loud, mixed in; both are right
    "vinyl",
    "wall",  # between the music and the room
    "suppression",  # of noise, and gain control, in the phone
    "telephone",  # its band and one of its codecs
    "out of phase",  # a stereo file, one channel inverted
    "over an edge",  # begins before its track, or ends after it
]


@dataclass(frozen=True, slots=True)
class Condition:
    """One row of the table: a family (a curve in the plots) at one query length."""

    family: str
    seconds: float
    snr_db: Range | None = None  # None: no noise
    phone: Phone | None = None
    warp: Warp | None = None
    unknown: bool = False  # cut from tracks that are not in the library
    noise: Literal["any", "talker"] = "any"
    effect: Effect | None = None

    @property
    def name(self) -> str:
        return f"{self.family} {self.seconds:g} s"


def _family(name: str, lengths: Iterable[float], **settings: object) -> tuple[Condition, ...]:
    return tuple(Condition(name, float(seconds), **settings) for seconds in lengths)  # type: ignore[arg-type]


LITTLE: Range = (10.0, 10.0)  # dB
TALKER_DB: Range = (-12.0, -6.0)
BEHIND_A_WALL = Phone(overload_db=None)

CONDITIONS: tuple[Condition, ...] = (
    *_family("clean", (2, 5)),
    *_family("noise", (1, 2, 3, 5, 10), snr_db=SNR_DB),
    *_family("phone", (2, 3, 5, 10), snr_db=SNR_DB, phone=Phone()),
    *_family("phone at -5 dB", (5, 10), snr_db=(-5.0, -5.0), phone=Phone()),
    *_family("phone at -10 dB", (10,), snr_db=(-10.0, -10.0), phone=Phone()),
    *_family("speed", (5, 10), snr_db=LITTLE, warp=Warp("speed", (0.02, 0.10))),
    *_family("pitch", (5, 10), snr_db=LITTLE, warp=Warp("pitch", (1.0, 2.0))),
    *_family("tempo", (5, 10), snr_db=LITTLE, warp=Warp("tempo", (0.05, 0.20))),
    *_family("unknown clean", (5, 10), unknown=True),
    *_family("unknown noise", (5, 10), snr_db=SNR_DB, unknown=True),
    *_family("unknown phone", (5, 10), snr_db=SNR_DB, phone=Phone(), unknown=True),
    *_family(
        "sped up by 12 to 30 %", (5, 10), snr_db=LITTLE, warp=Warp("speed", (0.12, 0.3), "up")
    ),
    *_family(
        "slowed by 10 to 25 %, reverb",
        (5, 10),
        snr_db=LITTLE,
        warp=Warp("speed", (0.10, 0.25), "down"),
        effect="hall",
    ),
    *_family("speed by 10 to 30 %", (5, 10), snr_db=LITTLE, warp=Warp("speed", (0.10, 0.30))),
    *_family("pitch by 3 to 4 semitones", (5, 10), snr_db=LITTLE, warp=Warp("pitch", (3.0, 4.0))),
    *_family("tempo by 25 to 45 %", (5, 10), snr_db=LITTLE, warp=Warp("tempo", (0.25, 0.45))),
    *_family("talker 6 to 12 dB above", (5, 10), snr_db=TALKER_DB, noise="talker"),
    *_family("through a wall", (5, 10), snr_db=SNR_DB, phone=BEHIND_A_WALL, effect="wall"),
    *_family("telephone", (5,), snr_db=SNR_DB, effect="telephone"),
    *_family("noise suppression", (5,), snr_db=SNR_DB, phone=Phone(), effect="suppression"),
    *_family("vinyl", (5,), effect="vinyl"),
    *_family("two tracks mixed", (5, 10), effect="second track"),
    *_family("channels out of phase", (5,), snr_db=LITTLE, effect="out of phase"),
    *_family("unknown speed", (10,), snr_db=LITTLE, warp=Warp("speed", (0.10, 0.30)), unknown=True),
    *_family("unknown pitch", (10,), snr_db=LITTLE, warp=Warp("pitch", (3.0, 4.0)), unknown=True),
    *_family("unknown tempo", (10,), snr_db=LITTLE, warp=Warp("tempo", (0.25, 0.45)), unknown=True),
    *_family("unknown talker", (10,), snr_db=TALKER_DB, noise="talker", unknown=True),
    *_family(
        "over an edge",
        (5, 10),
        snr_db=LITTLE,
        warp=Warp("speed", (0.02, 0.05), share=0.5),
        effect="over an edge",
    ),
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
