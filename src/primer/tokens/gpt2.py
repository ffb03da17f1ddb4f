"""GPT-2's vocabulary, from the two files that OpenAI published; and how such files spell bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache

from primer.assets import Asset, find
from primer.errors import DataError
from primer.tokens.bpe import BPETokenizer, Implementation
from primer.tokens.patterns import PatternName

_FOLDER = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main"

ENCODER = Asset(
    name="GPT-2's encoder.json",
    path="gpt2/encoder.json",
    url=f"{_FOLDER}/encoder.json",
    sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    licence="modified MIT (OpenAI)",
    size=1_042_301,
)
"""Token → id."""

MERGES = Asset(
    name="GPT-2's vocab.bpe",
    path="gpt2/vocab.bpe",
    url=f"{_FOLDER}/vocab.bpe",
    sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    licence="modified MIT (OpenAI)",
    size=456_318,
)
"""A comment, then the two halves of one merge a line."""


def gpt2(*, download: bool = True, implementation: Implementation = "auto") -> BPETokenizer:
    """GPT-2's tokenizer: 256 bytes, 50,000 merges, <|endoftext|>.

    Its files are looked for like every named file (`assets.find`), and downloaded where that is wanted.
    """
    vocabulary = json.loads(find(ENCODER, download=download).read_bytes())
    lines = find(MERGES, download=download).read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ") for line in lines[1:]]
    return from_spellings(vocabulary, pairs, pattern="gpt2", implementation=implementation)


@cache
def spelling() -> Mapping[int, str]:
    """byte → the character that stands for it in vocabulary files, so that no token holds a space or a control.

    The visible characters of Latin-1 stand for themselves, the other 68 bytes become U+0100, U+0101, … in order
    (`bytes_to_unicode` in OpenAI's encoder.py): a space is "Ġ", a line feed "Ċ".
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in visible)
    return {byte: chr(byte) for byte in visible} | {byte: chr(0x100 + n) for n, byte in enumerate(others)}


def spelled(token: bytes) -> str:
    """A token as vocabulary files write it."""
    characters = spelling()
    return "".join(characters[byte] for byte in token)


_ORDER = "ids in the order of bytes, merges, special tokens"


def from_spellings(
    vocabulary: Mapping[str, int],
    merges: Iterable[tuple[str, str] | list[str]],
    *,
    pattern: PatternName,
    special: Mapping[str, int] | None = None,
    implementation: Implementation = "auto",
) -> BPETokenizer:
    """The tokenizer of a vocabulary (token → id) and its merges, both as files spell them.

    special: names of special tokens with their ids, which `vocabulary` may hold, too; unless they are given, they are
    what the vocabulary holds beyond bytes and merges. DataError for ids in another order than bytes, merges, special
    tokens.
    """
    bytes_of = {character: byte for byte, character in spelling().items()}
    letters = sorted(bytes_of, key=lambda character: vocabulary.get(character, -1))
    if [vocabulary.get(character) for character in letters] != list(range(256)):
        raise DataError("the first 256 ids are not those of the 256 bytes", hint=_ORDER)
    halves: list[tuple[str, str]] = []
    for number, merge in enumerate(merges):
        if len(merge) != 2 or not all(half in vocabulary for half in merge):
            raise DataError(f"merge {number}, {' '.join(merge)!r}, is not of two tokens", hint=_ORDER)
        left, right = merge
        if vocabulary.get(left + right) != 256 + number:
            raise DataError(
                f"merge {number}, {left + right!r}, should have the id {256 + number}", hint=_ORDER
            )
        halves.append((left, right))
    ordinary = {*letters, *(left + right for left, right in halves)}
    others = {name: number for name, number in vocabulary.items() if name not in ordinary}
    if special is not None and not others.items() <= special.items():
        name, number = next(iter(others.items() - special.items()))
        raise DataError(
            f"the token {name!r}, id {number}, is neither a byte, nor a merge, nor special", hint=_ORDER
        )
    return BPETokenizer(
        [(vocabulary[left], vocabulary[right]) for left, right in halves],
        pattern=pattern,
        order=bytes(bytes_of[character] for character in letters),
        special_tokens=others if special is None else special,
        implementation=implementation,
    )
