"""Find, verify and download named files; write files that are whole or absent.

Order for a named file: `$PRIMER_DATA`, then the user's cache, then (only because it was asked for by name) a
download, which counts only if its SHA-256 is the expected one.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import platform
import re
import secrets
import shutil
import sys
import tempfile
import urllib.error
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, Protocol, TypeVar

from primer.errors import DataError, SurroundingsError, UsageError, refusal

BLOCK = 1 << 20
"""Bytes read at once wherever a file is hashed or copied."""

log = logging.getLogger("primer")


@dataclass(frozen=True)
class Asset:
    """A file that is known by name: where it lies, where it comes from, and what it must hash to."""

    name: str
    path: str
    """Relative to `$PRIMER_DATA` or the cache, with forward slashes."""
    url: str
    sha256: str
    licence: str
    size: int
    """Bytes: no download reads further than this."""


def data_dir() -> Path | None:
    """The folder that `$PRIMER_DATA` names, or None where it is unset."""
    value = os.environ.get("PRIMER_DATA")
    if not value:
        return None
    folder = Path(value)
    if not folder.is_dir():
        raise SurroundingsError(
            "PRIMER_DATA names no folder", where=value, hint="unset PRIMER_DATA or correct it"
        )
    return folder.resolve()


def cache_dir() -> Path:
    """The user's cache for primer, made if need be: `$XDG_CACHE_HOME/primer`, else the platform's place.

    Without a home that can be written, a private folder among the temporary files serves; a warning says so.
    """
    wanted = _wanted_cache()
    if wanted is not None and _usable(wanted):
        return wanted
    user = os.getuid() if hasattr(os, "getuid") else "user"
    fallback = Path(tempfile.gettempdir()) / f"primer-{user}"
    if not (_usable(fallback) and _private(fallback)):
        raise SurroundingsError(
            "no cache folder can be written",
            where=str(wanted or fallback),
            hint="XDG_CACHE_HOME=/a/folder/of/yours",
        )
    _warn_once(f"the cache {wanted or 'without a home'} cannot be written; using {fallback}")
    return fallback


@cache
def _warn_once(message: str) -> None:
    log.warning(message)


def _wanted_cache() -> Path | None:
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).absolute() / "primer"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "primer" / "Cache"
    try:
        home = Path.home()
    except RuntimeError:  # no $HOME and no entry for this user
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "primer"


def _usable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _private(folder: Path) -> bool:
    """Nobody else could have laid something there (the temporary folder belongs to everyone)."""
    state = folder.lstat()
    ours = not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & 0o022)
    return ours and not folder.is_symlink()


def find(asset: Asset, *, download: bool = True) -> Path:
    """The verified file of `asset`. Raises DataError for a damaged one, SurroundingsError without one."""
    for place in _places(asset):
        if place.exists():
            if sha256_of(place) != asset.sha256:
                raise DataError(
                    f"this is not {asset.name}: its SHA-256 differs", str(place), "delete it and try again"
                )
            return place
    target = cache_dir() / asset.path
    if not download:
        raise SurroundingsError(f"{asset.name} is not here", hint=f"put {asset.url} at {target}")
    return _download(asset, target)


def _places(asset: Asset) -> Iterator[Path]:
    """Where it may lie already, the user's own choice first."""
    if (data := data_dir()) is not None:
        yield data / asset.path
    yield cache_dir() / asset.path


def _download(asset: Asset, target: Path) -> Path:
    import urllib.request  # which takes longer than all else here, and is seldom needed

    log.warning("downloading %s from %s", asset.name, asset.url)
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(asset.url, timeout=30) as answer, replacing(target) as file:
            left = asset.size + 1
            while left > 0 and (block := answer.read(min(BLOCK, left))):
                left -= len(block)
                digest.update(block)
                file.write(block)
            if digest.hexdigest() != asset.sha256:
                raise DataError(
                    f"the download of {asset.name} is not the expected file: its SHA-256 differs",
                    where=asset.url,
                    hint=f"put a good copy at {target}",
                )
    except urllib.error.URLError as error:  # which covers being offline
        raise _unreachable(asset, target, error.reason) from error
    except (TimeoutError, ConnectionError) as error:
        raise _unreachable(asset, target, error) from error
    return target


def _unreachable(asset: Asset, target: Path, reason: object) -> SurroundingsError:
    return SurroundingsError(
        f"{asset.name} could not be downloaded ({reason})", where=asset.url, hint=f"put that file at {target}"
    )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal, read in blocks."""
    with reading(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def reading(path: Path) -> Iterator[BufferedReader]:
    """Open a file to read its bytes; what goes wrong is said in the reader's words."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=str(path), hint="look at its name") from error
    except PermissionError as error:
        raise SurroundingsError(
            "no permission to read this", where=str(path), hint=f"chmod u+r '{path}'"
        ) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", str(path), "another file") from error


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BufferedWriter]:
    """Write a file that is whole or absent, in a folder that is made if need be; SurroundingsError if it can't be."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        with whole(path, durable=durable) as file:
            yield file


@contextmanager
def whole(path: Path, *, durable: bool = True) -> Iterator[BufferedWriter]:
    """Write a file that is whole or absent: temporary name beside it, fsync, rename, fsync of the folder.

    durable: without it nothing waits for the disk. A process that is killed leaves no half of a file then either; a
    power cut may, which is for files whose checksum lies elsewhere, so that they are made again.
    """
    temporary = temporary_name(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def require_free(path: Path, hint: str = "another folder") -> None:
    """UsageError where anything is at `path`: nothing is ever written over."""
    if os.path.lexists(path):
        raise UsageError("something is here already", where=str(path), hint=hint)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which appears at `path` when the block ends well, and otherwise never.

    Files go into it directly. Raises UsageError where something is at `path` already, SurroundingsError where nothing
    can be written.
    """
    require_free(path)
    temporary = temporary_name(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        temporary.mkdir()
        try:
            yield temporary
            for place in (*temporary.iterdir(), temporary):
                sync(place)
            require_free(path)  # renaming would replace an empty folder
            temporary.rename(path)
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a small text file: a reader sees the old one or the new one, never half of one."""
    with whole(path, durable=durable) as file:
        file.write(text.encode("utf-8"))


def temporary_name(path: Path, *, owned: bool = True) -> Path:
    """A name beside `path` that tells which process, on which machine, is writing it; not owned: that none does."""
    process = os.getpid() if owned else 0
    name = f"{path.name}.tmp-{_MACHINE}-{process}-{secrets.token_hex(4)}"
    if owned:
        _OURS.add(name)
    return path.with_name(name)


def left_behind(path: Path) -> list[Path]:
    """What processes of this machine that died (or let go) while they wrote `path` have left beside it."""
    found = []
    for stale in path.parent.glob(f"{glob.escape(path.name)}.tmp-{_MACHINE}-*"):
        process = stale.name.split("-")[-2]
        if process.isdecimal() and stale.name not in _OURS and not _at_work(int(process)):
            found.append(stale)
    return sorted(found)


def of_other_machines(path: Path) -> list[Path]:
    """What other machines are writing to `path`, or have left beside it: from here nobody can tell which."""
    theirs = path.parent.glob(f"{glob.escape(path.name)}.tmp-*-*-*")
    return sorted(stale for stale in theirs if not stale.name.startswith(f"{path.name}.tmp-{_MACHINE}-"))


def sweep(path: Path, spare: Collection[Path] = ()) -> None:
    """Remove what dead processes of this machine have left beside `path`, but for what is to be spared."""
    for stale in left_behind(path):
        if stale in spare:
            continue
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


_MACHINE = re.sub(r"\W", "", platform.node()) or "local"


_OURS: set[str] = set()
"""Temporary names of this process. One that has its number and is not here was given by a process before it: a
container numbers its processes anew when it starts again, and the one that was killed had often the same number."""


def _at_work(process: int) -> bool:
    return process != os.getpid() and _alive(process)


def _alive(process: int) -> bool:
    if process == 0:  # nobody's; to ask for it would be to ask for this process's own group
        return False
    if sys.platform == "win32":  # where the question would be a Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it lives, and belongs to someone else
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Whether it has ended, and only its number is left: in a container nobody may ever ask what became of it."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return False


MadeT = TypeVar("MadeT", bound="Made")


class Made(Protocol):
    """What was made from something else, which `key` says."""

    @property
    def key(self) -> str: ...


def reusable(opened: Callable[[Path], MadeT], path: Path, key: str) -> MadeT | None:
    """What lies at `path` in the cache, if it is whole and of this key; else it is thrown away."""
    if not path.exists():
        return None
    try:
        found = opened(path)
        if found.key == key:
            return found
    except DataError as error:
        log.warning("%s; making it again", error)
    with writing(path):
        shutil.rmtree(path)
    return None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what the surroundings lack when something cannot be written below `path`."""
    try:
        yield
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        raise  # a network's failure, not the disk's
    except OSError as error:
        other = (f"cannot be written ({error.strerror or error})", "another folder, or free space")
        cause, hint = refusal(error) or other
        raise SurroundingsError(cause, where=str(path), hint=hint) from error


def sync(path: Path) -> None:
    """Make a file, or the renames inside a folder (not on Windows, which cannot), survive a power cut."""
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal(fields: dict[str, Any]) -> str:
    """Canonical JSON of `fields` with a "sha256" over all the rest: a changed bit anywhere is noticed."""
    body = _canonical(fields)
    return _canonical({**fields, "sha256": hashlib.sha256(body.encode()).hexdigest()})


def unseal(text: str, where: str) -> dict[str, Any]:
    """The fields that `seal` was given. Raises DataError when `text` is not exactly what it wrote."""
    damaged = DataError("this file is damaged: its checksum does not fit", where=where, hint="make it again")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged from error
    if not isinstance(fields, dict) or "sha256" not in fields:
        raise damaged
    del fields["sha256"]
    if seal(fields) != text:
        raise damaged
    return fields


def _canonical(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def sha256_of_lines(lines: Iterable[str]) -> str:
    """The SHA-256 of several lines, each ended by a newline."""
    return hashlib.sha256(
        "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    ).hexdigest()
