"""One process a directory (of a run, of a corpus): the lock is the kernel's, so a dead holder's is free at once."""

import os
from pathlib import Path
from types import TracebackType
from typing import IO

from primer.errors import SurroundingsError


class RunLock:
    """`with RunLock(run): …` — a second holder gets a `SurroundingsError` that names the first."""

    def __init__(self, directory: Path, doing: str = "this run is being trained") -> None:
        self.doing = doing
        self.file = directory / "lock"
        self.handle: IO[str] | None = None

    def __enter__(self) -> "RunLock":
        handle = open(self.file, "a+", encoding="utf-8")
        try:
            _take(handle)
        except OSError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            handle.close()
            raise SurroundingsError(
                f"{self.doing} by {holder}",
                where=str(self.file.parent),
                hint="wait for it, or stop it with Ctrl-C where it runs",
            ) from None
        handle.seek(0)
        handle.truncate()
        handle.write(f"process {os.getpid()}\n")
        handle.flush()
        self.handle = handle
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.handle:
            self.handle.close()


def is_held(directory: Path) -> bool:
    """Whether a process trains this run now. Nothing is written, and those who ask do not get in each other's way."""
    try:
        with open(directory / "lock", encoding="utf-8") as handle:
            _take(handle, shared=True)
    except FileNotFoundError:
        return False
    except OSError:  # held; or not ours to read: believe what the run says
        return True
    return False


def _take(handle: IO[str], *, shared: bool = False) -> None:
    """Lock the open file without waiting; OSError where someone else has it."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
