"""A process under ptrace(2): it stops at every system call that changes a folder. Linux, x86-64.

Calls of Python, SQLite and Annoy alike are seen, so that a fault can be injected at every single
change that a writer makes to the disk.
"""

import ctypes
import errno
import os
import platform
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

TRACEME, GETREGS, SETREGS, SYSCALL, SETOPTIONS = 0, 12, 13, 24, 0x4200
TRACESYSGOOD, EXITKILL = 1, 0x100000
AT_FDCWD = -100
O_CREAT = 0o100

WRITES = {1: "write", 18: "pwrite", 20: "writev", 296: "pwritev", 77: "ftruncate", 285: "fallocate"}
SYNCS = {74: "fsync", 75: "fdatasync"}
# Of the rest: which arguments are a folder's descriptor (or none) and a path, in pairs.
PATHS: dict[int, tuple[str, list[tuple[int | None, int]]]] = {
    2: ("open", [(None, 0)]),
    257: ("open", [(0, 1)]),
    83: ("mkdir", [(None, 0)]),
    258: ("mkdir", [(0, 1)]),
    84: ("rmdir", [(None, 0)]),
    87: ("unlink", [(None, 0)]),
    263: ("unlink", [(0, 1)]),
    76: ("truncate", [(None, 0)]),
    82: ("rename", [(None, 0), (None, 1)]),
    264: ("rename", [(0, 1), (2, 3)]),
    316: ("rename", [(0, 1), (2, 3)]),
}
FLAGS = {2: 1, 257: 2}  # which argument of open says whether it creates

# fmt: off
NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs",
    "gs",
)
# fmt: on


class Registers(ctypes.Structure):
    """`struct user_regs_struct`."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in NAMES]


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that changes the folder; `paths` are absolute."""

    name: str
    paths: tuple[Path, ...]
    size: int = 0  # bytes of a write

    @property
    def writes(self) -> bool:
        """Whether it takes room on the disk."""
        return self.name in {*WRITES.values(), "open", "mkdir", "truncate"}

    @property
    def syncs(self) -> bool:
        return self.name in SYNCS.values()


class Fate(Enum):
    """What to do with a call."""

    PASS = 0
    KILL = 1  # the process dies before it
    TEAR = 2  # half of a write gets done, then the process dies
    FULL = errno.ENOSPC
    READ_ONLY = errno.EROFS
    BROKEN = errno.EIO


@dataclass(frozen=True, slots=True)
class Ending:
    """How the process ended: its exit status, or None if it was killed."""

    status: int | None


def supported() -> bool:
    """Whether this machine can trace."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def traced(
    work: Callable[[], int],
    folder: Path,
    judge: Callable[[Call], Fate],
    after: Callable[[Call], None] = lambda _call: None,
) -> Ending:
    """Do `work` in a process of its own, which ends with the status that it returns.

    `judge` decides what to do with every call that changes something in `folder`; `after` is called
    after those that have succeeded.

    Raises:
        OSError: this machine does not let a process trace its child.
    """
    pid = os.fork()
    if not pid:
        _child(work)
    os.waitpid(pid, 0)
    _ptrace(SETOPTIONS, pid, 0, TRACESYSGOOD | EXITKILL)
    return _Tracer(pid, folder, judge, after).run()


def _child(work: Callable[[], int]) -> None:
    status = 70
    try:
        _ptrace(TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        status = work()
    except BaseException as error:
        os.write(2, f"the writer failed with {error!r}\n".encode(errors="replace"))
    finally:
        os._exit(status)


class _Tracer:
    def __init__(
        self,
        pid: int,
        folder: Path,
        judge: Callable[[Call], Fate],
        after: Callable[[Call], None],
    ) -> None:
        self._pid, self._folder = pid, folder
        self._judge, self._after = judge, after

    def run(self) -> Ending:
        pending: tuple[Call, Fate] | None = None
        inside = False
        signal_number = 0
        while True:
            with suppress(ProcessLookupError):  # it has been killed
                _ptrace(SYSCALL, self._pid, 0, signal_number)
            _, status = os.waitpid(self._pid, 0)
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                return Ending(os.WEXITSTATUS(status) if os.WIFEXITED(status) else None)
            signal_number = 0
            if os.WSTOPSIG(status) != signal.SIGTRAP | 0x80:
                signal_number = os.WSTOPSIG(status)
                continue
            inside = not inside
            if inside:
                pending = self._enter()
            elif pending is not None:
                self._leave(*pending)

    def _enter(self) -> tuple[Call, Fate] | None:
        registers = self._registers()
        call = self._call(registers)
        if call is None:
            return None
        fate = self._judge(call)
        if fate is Fate.KILL or (fate is Fate.TEAR and call.size < 2):
            os.kill(self._pid, signal.SIGKILL)
        elif fate is Fate.TEAR:
            registers.rdx = call.size // 2
            self._set(registers)
        elif fate is not Fate.PASS:
            registers.orig_rax = ctypes.c_ulonglong(-1).value  # no such call: it does nothing
            self._set(registers)
        return call, fate

    def _leave(self, call: Call, fate: Fate) -> None:
        registers = self._registers()
        if fate is Fate.TEAR:
            os.kill(self._pid, signal.SIGKILL)
        elif fate is not Fate.PASS:
            registers.rax = ctypes.c_ulonglong(-fate.value).value
            self._set(registers)
        elif ctypes.c_longlong(registers.rax).value >= 0:
            self._after(call)

    def _call(self, registers: Registers) -> Call | None:
        """The call if it is one that changes the folder."""
        number = registers.orig_rax
        values = [registers.rdi, registers.rsi, registers.rdx, registers.r10]
        if number in WRITES or number in SYNCS:
            path = self._open_file(values[0])
            name = WRITES.get(number) or SYNCS[number]
            size = values[2] if name in ("write", "pwrite") else 0
            return Call(name, (path,), size) if self._within(path) else None
        if number not in PATHS:
            return None
        name, arguments = PATHS[number]
        paths = tuple(self._named(values, *pair) for pair in arguments)
        if not any(map(self._within, paths)):
            return None
        if name == "open" and (not values[FLAGS[number]] & O_CREAT or paths[0].exists()):
            return None
        return Call(name, paths)

    def _within(self, path: Path) -> bool:
        return path == self._folder or self._folder in path.parents

    def _open_file(self, descriptor: int) -> Path:
        try:
            return Path(f"/proc/{self._pid}/fd/{ctypes.c_int(descriptor).value}").readlink()
        except OSError:
            return Path("/nowhere")

    def _named(self, values: list[int], folder: int | None, name: int) -> Path:
        with Path(f"/proc/{self._pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(values[name])
            text = memory.read(4096).split(b"\0")[0]
        path = Path(os.fsdecode(text))
        if path.is_absolute():
            return path
        within = AT_FDCWD if folder is None else ctypes.c_int(values[folder]).value
        base = Path(f"/proc/{self._pid}/cwd").readlink()
        return (base if within == AT_FDCWD else self._open_file(within)) / path

    def _registers(self) -> Registers:
        registers = Registers()
        _ptrace(GETREGS, self._pid, 0, ctypes.addressof(registers))
        return registers

    def _set(self, registers: Registers) -> None:
        _ptrace(SETREGS, self._pid, 0, ctypes.addressof(registers))


def _ptrace(request: int, pid: int, address: int, data: int) -> None:
    libc = _LIBC
    result = libc.ptrace(
        ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(address), ctypes.c_void_p(data)
    )
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "ptrace")


_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.restype = ctypes.c_long
