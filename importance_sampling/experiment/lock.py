"""One run in a directory at a time."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOCK = "run.lock"
"""The file that a run holds locked; the operating system lets go of it however the run ends."""

_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)

if sys.platform == "win32":
    import msvcrt

    # Far behind what is written there, so that others can read who holds it.
    _BYTE = 2**20

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Holds a directory, so that no other run writes into it.

    Args:
        directory: that of the run.

    Yields:
        bool, whether the lock of a run that was killed was still there.

    Raises:
        OSError: if it cannot be written to.
        RuntimeError: if a run holds it; says which.
    """
    path = directory / LOCK
    left = path.exists()
    descriptor = _open(path)
    try:
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
        with contextlib.suppress(OSError):
            # Only for those who ask: on a full disk a run may still go on.
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, json.dumps(mine).encode())
        yield left
    finally:
        # While it is held, so that nobody can have taken it in between; Windows does not let it.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _open(path: Path) -> int:
    """A descriptor of the file, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(descriptor)
            if _is_there(path, descriptor):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            if error.errno in _BUSY:
                raise RuntimeError(
                    f"{path.parent} is in use by {_holder(path)}. Wait until it has ended, or "
                    "choose another directory."
                ) from None
            raise OSError(
                error.errno, f"{error.strerror}: the file system cannot lock files", str(path)
            ) from error
        # Whoever held it has removed it meanwhile.
        os.close(descriptor)


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Who holds the lock, in words."""
    try:
        found: Any = json.loads(path.read_bytes()[:1000])
        return (
            f"another run: process {int(found['pid'])} on {str(found['host'])[:100]}, since "
            f"{str(found['since'])[:30]}"
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another run"
