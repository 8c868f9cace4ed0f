"""The first numbers of embeddings, by which an index finds them. Pure NumPy.

They were trained to be an embedding of their own (`fingerprint.training.mining`): an index of them
is half as large and as slow as one of all, and what it finds is compared again by all.
"""

import numpy as np

from fingerprint.config import KEY
from fingerprint.types import Floats


def keys(vectors: Floats) -> Floats:
    """Of embeddings (N, D), the first numbers at unit length, (N, min(D, KEY)); silence is zero."""
    if vectors.shape[1] <= KEY:
        return vectors
    first = vectors[:, :KEY]
    length = np.linalg.norm(first, axis=1, keepdims=True)
    scaled: Floats = first / np.maximum(length, np.float32(1e-6))
    return scaled
