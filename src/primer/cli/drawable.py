"""Whether a picture can be drawn into a file: rather said before what it shows is computed."""

from __future__ import annotations

from pathlib import Path

from primer.errors import UsageError


def require(file: str, flag: str = "--plot") -> None:
    """As `plots.require`; UsageError also for a file in a folder that is not there, and for a folder."""
    from primer.cli import plots

    plots.require(file, flag)
    path = Path(file)
    if not path.parent.is_dir():
        raise UsageError(
            f"{flag}: there is no folder {str(path.parent)!r}",
            file,
            f"mkdir -p {path.parent}, or another folder",
        )
    if path.is_dir():
        raise UsageError(f"{flag}: this is a folder", file, f"{flag}={path / 'picture'}{path.suffix}")
