"""Real refusals for root too: the right to ignore permissions can be laid down for a while."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_VERSION = 0x20080522  # of the kernel's structures
_IGNORE_PERMISSIONS = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextmanager
def heeding_permissions() -> Iterator[None]:
    """This thread may read and write only what the files' modes allow; root as everybody else."""
    if os.name != "posix":
        pytest.skip("permissions are those of POSIX")
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root may do everything here")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    if libc.capget(header, sets):
        pytest.skip("this system does not tell its capabilities")
    before = sets[0]
    sets[0] = before & ~_IGNORE_PERMISSIONS
    if libc.capset(header, sets):
        pytest.skip("capabilities cannot be laid down here")
    try:
        yield
    finally:
        sets[0] = before
        libc.capset(header, sets)
