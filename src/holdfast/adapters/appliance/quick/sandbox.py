"""What a process gives up before it reads what nobody trusts: other users' rights, files, programs,
sockets, memory without end. After it, it can compute, and talk over what is open already."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Sequence

NOBODY = 65534
MEMORY_BYTES = 2 << 30
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2  # prctl(2), seccomp(2)
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # the second: EPERM
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: load a word, jump when equal, return
# (audit architecture, numbers of read, write, close, fstat, lseek, mmap, mprotect, munmap, brk,
# rt_sigaction, rt_sigprocmask, rt_sigreturn, mremap, madvise, sched_yield, exit, futex,
# clock_gettime, exit_group, getrandom)
_CALLS = {
    "x86_64": (
        0xC000003E,
        (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 25, 28, 24, 60, 202, 228, 231, 318),
    ),
    "aarch64": (
        0xC00000B7,
        (
            63,
            64,
            57,
            80,
            62,
            222,
            226,
            215,
            214,
            134,
            135,
            139,
            216,
            233,
            124,
            93,
            98,
            113,
            94,
            278,
        ),
    ),
}


class SandboxError(Exception):
    """This machine cannot shut a process in."""


class _Program(ctypes.Structure):
    _fields_ = (("count", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def shut_in() -> None:
    """For the rest of this process. SandboxError when any of it is impossible: then nothing may be
    read here."""
    try:
        _leave_rights()
        limits = (
            (resource.RLIMIT_AS, MEMORY_BYTES),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_NPROC, 0),
        )
        for what, most in limits:
            resource.setrlimit(what, (most, most))
    except (OSError, ValueError) as error:
        raise SandboxError(str(error)) from error
    _refuse_calls()


def _leave_rights() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _refuse_calls() -> None:
    """Every system call but those that compute and move bytes of what is open."""
    found = _CALLS.get(platform.machine())
    if found is None:
        raise SandboxError(f"no list of system calls for {platform.machine()}")
    program = _program(*found)
    libc = ctypes.CDLL(None, use_errno=True)
    shut = _Program(len(program) // 8, program)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(
        _SECCOMP, _FILTER, ctypes.byref(shut), 0, 0
    ):
        raise SandboxError(os.strerror(ctypes.get_errno()))


def _program(architecture: int, calls: Sequence[int]) -> bytes:
    """BPF over ``struct seccomp_data``: the call's number is its first word, the architecture its
    second. Another architecture's calls have other numbers: such a process is killed."""
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    steps.append((_LOAD, 0, 0, 0))
    for number, call in enumerate(calls):
        steps.append((_EQUAL, len(calls) - number, 0, call))
    steps += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
