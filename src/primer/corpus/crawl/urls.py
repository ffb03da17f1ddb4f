"""Addresses that nobody wants to learn from: block lists of domains and pages, banned words in the address.

As datatrove's URLFilter decides, in the same order and with the same reasons; but 4.5 million domains are here 36 MB
of sorted 64-bit hashes in a file that all processes map, instead of 850 MB in each.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from primer.assets import cache_dir, replacing, sha256_of, sha256_of_lines
from primer.errors import DataError, missing_extra

WORD_END = re.compile(r"[^a-zA-Z0-9]+")
LISTS = ("domains", "urls", "banned_words.txt", "banned_subwords.txt", "soft_banned_words.txt")
TARBALL = "url_filterblacklistsv0_3_0.tar.gz"
"""How datatrove packs its two long lists, made from https://dsi.ut-capitole.fr/blacklists/."""

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class UrlFilter:
    """Says why an address is dropped, or None."""

    domains: Hashes
    urls: Hashes
    banned_words: frozenset[str]
    soft_words: frozenset[str]
    banned_subwords: frozenset[str]
    soft_least: int
    _find_subword: Callable[[str], bool] = field(repr=False)

    def reason(self, url: str) -> str | None:
        """The first of datatrove's rules that the address breaks, under datatrove's name for it."""
        registered, host = _host(url)
        if _in(self.domains, registered):
            return "domain"
        if _in(self.domains, host):
            return "subdomain"
        if _in(self.urls, url):
            return "url"
        words = set(WORD_END.split(url))
        if words & self.banned_words:
            return "hard_blacklisted"
        if len(words & self.soft_words) >= self.soft_least:
            return "soft_blacklisted"
        if self.banned_subwords and self._find_subword(WORD_END.sub("", url).lower()):
            return "blacklisted_subword"
        return None


def open_lists(place: str, soft_least: int = 2) -> UrlFilter:
    """The filter by the lists in a folder, or by those that an installed datatrove carries ("datatrove").

    The long lists are hashed once, into the cache. Raises DataError where there are none.
    """
    folder = _of_datatrove() if place == "datatrove" else Path(place)
    present = [folder / name for name in LISTS if (folder / name).is_file()]
    packed = folder / TARBALL
    if not present and not packed.is_file():
        raise DataError("no list of addresses is here", str(folder), "any of " + ", ".join(LISTS))
    long: dict[str, Hashes] = {}
    for name in ("domains", "urls"):
        path = folder / name if (folder / name).is_file() else packed
        long[name] = _hashed(path, name) if path.is_file() else np.empty(0, np.uint64)
    words = {
        name: frozenset(_words(folder / f"{name}.txt")) for name in ("banned_words", "soft_banned_words")
    }
    subwords = frozenset(_words(folder / "banned_subwords.txt"))
    return UrlFilter(
        long["domains"],
        long["urls"],
        words["banned_words"],
        words["soft_banned_words"],
        subwords,
        soft_least,
        _finder(subwords),
    )


def fingerprint(place: str) -> str:
    """SHA-256 over all lists: what decides."""
    folder = _of_datatrove() if place == "datatrove" else Path(place)
    files = [folder / name for name in (*LISTS, TARBALL) if (folder / name).is_file()]
    return sha256_of_lines(f"{sha256_of(path)}  {path.name}" for path in files)


def _of_datatrove() -> Path:
    found = find_spec("datatrove")
    if found is None or not found.submodule_search_locations:
        raise missing_extra("datatrove", "cluster")
    return Path(next(iter(found.submodule_search_locations)), "assets")


@lru_cache(maxsize=1)
def _extract() -> Any:
    try:
        import tldextract
    except ImportError as error:
        raise missing_extra("tldextract", "corpus") from error
    return tldextract.TLDExtract(
        suffix_list_urls=(), cache_dir=None
    )  # the list it carries: no network, no files


def _host(url: str) -> tuple[str, str]:
    """(registered domain, host): ("example.co.uk", "www.example.co.uk")."""
    try:
        found = _extract()(url)
    except ValueError:  # an address that is none, such as "http://["
        return "", ""
    return found.top_domain_under_public_suffix, found.fqdn


def _hash(entry: str) -> int:
    import xxhash

    return xxhash.xxh3_64_intdigest(entry.encode("utf-8", "surrogatepass"))


def _in(hashes: Hashes, entry: str) -> bool:
    """One of 4.5 million entries is mistaken for another address once in 4 · 10¹² addresses."""
    if not len(hashes) or not entry:
        return False
    wanted = np.uint64(_hash(entry))
    place = int(np.searchsorted(hashes, wanted))
    return place < len(hashes) and bool(hashes[place] == wanted)


def _hashed(path: Path, name: str) -> Hashes:
    """The list's entries as sorted hashes, memory-mapped from the cache."""
    target = cache_dir() / "urls" / f"{name}-{sha256_of(path)[:16]}.npy"
    if not target.is_file():
        hashes = np.unique(np.fromiter((_hash(entry) for entry in _entries(path, name)), np.uint64))
        with replacing(target) as file:
            np.save(file, hashes)
    found: Hashes = np.load(target, mmap_mode="r")
    return found


def _entries(path: Path, name: str) -> Iterator[str]:
    if path.name != TARBALL:
        with path.open(encoding="utf-8", errors="surrogateescape") as lines:
            yield from (line.strip() for line in lines if line[0] != "#")
        return
    with tarfile.open(path, "r:gz") as packed:
        for member in packed:
            if member.isfile() and Path(member.name).name == name and (file := packed.extractfile(member)):
                yield from (
                    line.decode("utf-8", "surrogateescape").strip()
                    for line in file
                    if not line.startswith(b"#")
                )


def _words(path: Path) -> Iterable[str]:
    """Entries as the words of an address are compared: only letters and digits, in lower case."""
    if not path.is_file():
        return []
    lines = path.read_text("utf-8", "surrogateescape").splitlines()
    return [word for line in lines if line[:1] != "#" and (word := WORD_END.sub("", line).lower())]


def _finder(subwords: Iterable[str]) -> Callable[[str], bool]:
    """Whether any of them occurs, in one pass over the address (Aho and Corasick 1975)."""
    subwords = list(subwords)
    if not subwords:
        return lambda _: False
    try:
        import ahocorasick
    except ImportError as error:
        raise missing_extra("pyahocorasick", "corpus") from error
    automaton = ahocorasick.Automaton(ahocorasick.STORE_INTS)
    for number, word in enumerate(subwords):
        automaton.add_word(word, number)
    automaton.make_automaton()
    return lambda text: next(automaton.iter(text), None) is not None
