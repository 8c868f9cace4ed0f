"""The background that travels with a model, in some 300 kB; see `recognition.cohort`."""

from io import BytesIO

import numpy as np

from fingerprint.errors import ModelError
from fingerprint.index.quantisation import decode, encode
from fingerprint.types import Background

BITS = 4  # of a number of an embedding


def pack(background: Background) -> bytes:
    """The background as bytes."""
    file = BytesIO()
    passages, rows, dim = background.vectors.shape
    codes = encode(background.vectors.reshape(-1, dim), BITS).reshape(passages, rows, -1)
    np.savez(file, codes=codes, peaks=background.peaks, dim=dim)
    return file.getvalue()


def unpack(content: bytes, hop: float) -> Background:
    """What `pack` made bytes of, for a model whose rows lie `hop` (s) apart.

    Raises:
        ModelError: the bytes are something else.
    """
    try:
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            codes, peaks, dim = arrays["codes"], arrays["peaks"], int(arrays["dim"])
        passages, rows, width = codes.shape
        vectors = decode(codes.reshape(-1, width), BITS, dim).reshape(passages, rows, dim)
        return Background(vectors, peaks.reshape(passages, rows, -1), hop)
    except Exception as error:  # zip files make NumPy raise whatever they lead it to
        raise ModelError("the model's background is damaged") from error
