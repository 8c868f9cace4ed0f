"""Landlock: a process irrevocably gives up the right to open files and TCP connections.

Available in Linux from 5.13 on, without privileges. Open descriptors stay usable, so a confined
process works on those that it was given. The three system calls are made by number, through ctypes.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1  # LANDLOCK_RULE_PATH_BENEATH
_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
# The file rights that each ABI version can deny.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_NETWORK_FROM, _TCP_RIGHTS = 4, 0b11  # bind, connect
_SCOPES_FROM, _SCOPES = 6, 0b11  # abstract sockets, signals


def abi() -> int:
    """The Landlock ABI version of this system; 0 without Landlock."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION))


def confine(
    programs: Sequence[Path] = (), *, readable: Sequence[Path] = (), network: bool = False
) -> bool:
    """Deny this process to open files and TCP connections from now on; whether that worked.

    Files below `programs` may still be read and executed, those below `readable` only read. With
    `network`, connections are allowed. Existing threads are not confined: call it before any start.
    """
    version = abi()
    if not version:
        return False
    files = max(rights for since, rights in _FILE_RIGHTS.items() if since <= version)
    ports = _TCP_RIGHTS if version >= _NETWORK_FROM and not network else 0
    scopes = _SCOPES if version >= _SCOPES_FROM else 0
    attributes = struct.pack("QQQ", files, ports, scopes)
    size = 8 if version < _NETWORK_FROM else 16 if version < _SCOPES_FROM else 24
    ruleset = _call(_CREATE_RULESET, ctypes.c_char_p(attributes[:size]), size, 0)
    if ruleset < 0:
        return False
    try:
        for path in programs:
            _allow(ruleset, path, _READ_FILE | _EXECUTE)
        for path in readable:
            _allow(ruleset, path, _READ_FILE)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            return False
        return _call(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    """Allow these rights below a path, if it exists."""
    with suppress(OSError):
        number = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rights |= _READ_DIR if path.is_dir() else 0
            rule = ctypes.c_char_p(struct.pack("=Qi", rights, number))
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
        finally:
            os.close(number)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    converted = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return int(libc.syscall(ctypes.c_long(number), *converted))
