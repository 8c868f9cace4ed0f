"""Profiles: how many rows of a recording a library keeps, how it quantises and how it indexes them.

Of a recording's rows, a hop apart, a profile keeps every `step`th, quantised to `bits` a dimension.
A query's rows are denser, so that one of them is near each row that is kept.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fingerprint.errors import LibraryError
from fingerprint.index.quantisation import code_type, code_width

FULL_BYTES = 128_000_000  # of codes in one segment, whose Annoy index is built in memory; 280 h
FULL_BYTES_LARGE = 1_000_000_000  # where the index is smaller than the codes; 9,000 h


@dataclass(frozen=True, slots=True)
class Profile:
    """Which of a recording's rows are kept, at which precision, and how they are searched.

    Without an index, the sign bits of all rows are compared. An index or the sign bits return
    `widening` times as many hits as wanted, and these are reranked by the stored codes.
    """

    name: str
    step: int  # hops of the model between rows
    bits: int  # per dimension: 8, 4, 2 or 1
    index: Literal["annoy", "faiss", None]
    widening: int = 1
    landmarks: bool = False  # whether landmarks propose candidates, too
    full_bytes: int = FULL_BYTES

    @property
    def kind(self) -> np.dtype[Any]:
        """NumPy type of a code's elements."""
        return code_type(self.bits)

    def width(self, dim: int) -> int:
        """Elements in the code of one embedding: int8, or words of 64 bits."""
        return code_width(dim, self.bits)

    def full_rows(self, dim: int) -> int:
        """Maximum rows per segment."""
        return self.full_bytes // (self.width(dim) * self.kind.itemsize)


STANDARD = Profile("standard", step=1, bits=1, index="annoy", widening=10, landmarks=True)
LARGE = Profile("large", step=4, bits=1, index="faiss", widening=40, full_bytes=FULL_BYTES_LARGE)
COMPACT = Profile("compact", step=2, bits=2, index=None, widening=10)
PROFILES = {profile.name: profile for profile in (STANDARD, LARGE, COMPACT)}
# Only to measure the others against: a query takes seconds in a large library.
REFERENCE = Profile("reference", step=1, bits=4, index=None, widening=10, landmarks=True)


def profile_of(name: str) -> Profile:
    """Raises LibraryError for a name that this version does not know."""
    known = PROFILES | {REFERENCE.name: REFERENCE}
    if name not in known:
        raise LibraryError(
            f"there is no profile {name!r}: choose {', '.join(PROFILES)}; a library that names "
            "another was made by another version: index its music into a new one"
        )
    return known[name]
