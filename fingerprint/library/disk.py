"""Seeing to it that what was written survives a power cut."""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """See a file, or a folder's entries, onto the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot, and need not
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
