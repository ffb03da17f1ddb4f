"""What a user can see go wrong: one cause, where it is, and one thing to try.

Everything that a person outside this project can cause is one of these; the command line prints it in three
lines without a traceback and ends with its exit code. Our own bugs are assertions and stay tracebacks.
"""

from __future__ import annotations

import errno


class PrimerError(Exception):
    """Failed while running. `cause` is one sentence, `where` a file, flag or step, `hint` one thing to try."""

    exit_code = 1

    def __init__(self, cause: str, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        """All three parts in one line, for notebooks and logs."""
        place = f" ({self.where})" if self.where else ""
        remedy = f". Try: {self.hint}" if self.hint else ""
        return f"{self.cause}{place}{remedy}"


class UsageError(PrimerError):
    """Wrong usage or configuration: an unknown verb, flag, key or recipe, an impossible size."""

    exit_code = 2


class SurroundingsError(PrimerError):
    """The surroundings lack something: an extra, a device, disk space, a permission, the network."""

    exit_code = 3


class DataError(PrimerError):
    """Bad or missing data, run or checkpoint."""

    exit_code = 4


class DivergedError(PrimerError):
    """Training produced numbers that are not finite, several steps in a row."""

    exit_code = 5


class StoppedError(PrimerError):
    """Ctrl-C (130) or SIGTERM (143), after saving. quiet: another process of the same training says so."""

    def __init__(
        self,
        cause: str,
        where: str | None = None,
        hint: str | None = None,
        exit_code: int = 130,
        *,
        quiet: bool = False,
    ) -> None:
        super().__init__(cause, where, hint)
        self.exit_code = exit_code
        self.quiet = quiet


_REFUSALS = {
    errno.ENOSPC: ("the disk is full", "free some space; what was saved before is intact"),
    errno.EDQUOT: ("your disk quota is used up", "free some space; what was saved before is intact"),
    errno.EROFS: ("this place is read-only", "another folder"),
    errno.EACCES: ("no permission", "another folder, or other rights on this one"),
    errno.EFBIG: ("files may not grow that large here", "ulimit -f unlimited, or another disk"),
    errno.EPERM: ("not permitted", "another folder, or other rights on this one"),
}


def refusal(error: OSError) -> tuple[str, str] | None:
    """(cause, hint) where the system says that it will not, and for what; None for any other failure."""
    return _REFUSALS.get(error.errno or 0)


def missing_extra(package: str, extra: str) -> SurroundingsError:
    """The one sentence for an optional dependency that is not installed."""
    return SurroundingsError(
        f"{package} is not installed", hint=f'python -m pip install "gpt-primer[{extra}]"'
    )


def nearest(word: str, known: list[str], cutoff: float = 0.5) -> str | None:
    """The known word that `word` was probably meant to be, or None. cutoff: how alike they must be, up to 1."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return close[0] if close else None
