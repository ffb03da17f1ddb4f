"""Text to shards: the only place where files become tokens.

Two passes, each streaming: the first learns the alphabet and the length, the second encodes and writes.
Memory does not grow with the text.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from primer.assets import cache_dir, log, sha256_of_lines, writing
from primer.corpus import Source, open_source
from primer.data.shards import SPLITS, VERSION, ShardDirectory, ShardWriter, Split
from primer.errors import DataError, UsageError
from primer.tokens import ByteTokenizer, CharTokenizer, Tokenizer, UnknownCharacterError
from primer.tokens.char import alphabet
from primer.tokens.tokenizer import Ids

Progress = Callable[[str, int, int], None]
"""Called with a stage and characters: ("read", so far, at most) first, then, ("encode", so far, all)."""


def prepare(
    spec: str | Path,
    *,
    tokenizer: str | Tokenizer = "char",
    out: Path | None = None,
    validation_fraction: float = 0.1,
    unknown: Literal["error", "skip"] = "error",
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    context_length: int | None = None,
    progress: Progress | None = None,
) -> ShardDirectory:
    """Turn a source into a shard directory, or open the one that was made from the same text in the same way.

    The last `validation_fraction` of the characters is the validation split. `tokenizer` is "char" (its
    vocabulary is that of the whole text), "byte", or one that exists. `out=None`: shards lie in the cache.
    With `context_length`, a split without one whole window is refused.
    """
    if not 0 < validation_fraction < 1:
        raise UsageError(f"data.validation_fraction must lie between 0 and 1, got {validation_fraction}")
    source = open_source(spec, encoding=encoding, encoding_errors=encoding_errors)
    wanted = tokenizer if isinstance(tokenizer, str) else f"{tokenizer.name} {tokenizer.fingerprint}"
    key = sha256_of_lines(
        [
            f"format {VERSION}",
            source.fingerprint,
            encoding,
            encoding_errors,
            wanted,
            unknown,
            str(validation_fraction),
        ]
    )
    path = Path(out) if out is not None else cache_dir() / "shards" / key[:16]
    shards = _reuse(path, key, ours=out is None)
    if shards is None:
        _write(
            path, source, key, tokenizer, validation_fraction, unknown, context_length, progress or _silent
        )
        shards = ShardDirectory.open(path, verify=False)
    _check_lengths({split: shards.counts[split]["tokens"] for split in SPLITS}, source, context_length)
    return shards


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _reuse(path: Path, key: str, ours: bool) -> ShardDirectory | None:
    """What lies at `path`, if it is whole and of this key. Only in the cache may anything be thrown away."""
    if not path.exists():
        return None
    try:
        shards = ShardDirectory.open(path)
        if shards.key == key:
            return shards
    except DataError as error:
        if not ours:
            raise
        log.warning("%s; making it again", error)
    if not ours:
        raise UsageError(
            "the shards there were made from another text, or otherwise", str(path), "another folder"
        )
    with writing(path):
        shutil.rmtree(path)
    return None


@dataclass(frozen=True)
class _Survey:
    """What the first pass learns."""

    characters: int
    alphabet: str


def _survey(source: Source, progress: Progress) -> _Survey:
    count = 0
    size = source.size

    def counted() -> Iterator[str]:
        nonlocal count
        for piece in source.text():
            count += len(piece)
            progress("read", count, size)
            yield piece

    letters = "".join(sorted(alphabet(counted())))
    if not count:
        raise DataError("the text is empty", where=source.address, hint="name a text with something in it")
    if not letters.strip():
        raise DataError("the text is nothing but white space", where=source.address, hint="name another text")
    if len(letters) == 1:
        raise DataError(
            f"the text holds one distinct character, {letters!r}: there is nothing to learn",
            where=source.address,
            hint="name another text",
        )
    return _Survey(count, letters)


def _write(
    path: Path,
    source: Source,
    key: str,
    tokenizer: str | Tokenizer,
    validation_fraction: float,
    unknown: Literal["error", "skip"],
    context_length: int | None,
    progress: Progress,
) -> None:
    survey = _survey(source, progress)
    made = _tokenizer(tokenizer, survey.alphabet, unknown)
    train = int((1 - validation_fraction) * survey.characters)
    about = {
        "name": source.name,
        "licence": source.licence,
        "address": source.address,
        "fingerprint": source.fingerprint,
    }
    position = 0
    with ShardWriter(path, made, source=about, key=key) as writer:
        for split, piece in _split(source.text(), train):
            ids = _encode(made, piece, position, source)
            skipped = len(piece) - len(ids) if isinstance(made, CharTokenizer) else 0
            size = None if skipped or not piece.isascii() else len(piece)
            writer.write(split, ids, characters=len(piece) - skipped, size=size, skipped=skipped)
            position += len(piece)
            progress("encode", position, survey.characters)
        if position != survey.characters:
            raise DataError("the text changed while it was read", where=source.address, hint="try again")
        _check_lengths({split: writer.counts[split]["tokens"] for split in SPLITS}, source, context_length)


def _split(pieces: Iterator[str], train: int) -> Iterator[tuple[Split, str]]:
    """The first `train` characters are for training, the rest for validation."""
    position = 0
    for piece in pieces:
        cut = min(max(train - position, 0), len(piece))
        if cut:
            yield "train", piece[:cut]
        if cut < len(piece):
            yield "validation", piece[cut:]
        position += len(piece)


def _encode(tokenizer: Tokenizer, piece: str, position: int, source: Source) -> Ids:
    try:
        return tokenizer.encode(piece)
    except UnknownCharacterError as error:
        raise UnknownCharacterError(error.character, position + error.position, source.address) from error


def _tokenizer(wanted: str | Tokenizer, letters: str, unknown: Literal["error", "skip"]) -> Tokenizer:
    match wanted:
        case "char":
            return CharTokenizer(letters, unknown)
        case "byte":
            return ByteTokenizer()
        case CharTokenizer():
            return CharTokenizer(wanted.characters, unknown)
        case str():
            raise UsageError(f"unknown tokenizer {wanted!r}", hint="--data.tokenizer=char (or byte)")
    return wanted


def _check_lengths(tokens: dict[Split, int], source: Source, context_length: int | None) -> None:
    window = (context_length or 1) + 1
    for split, count in tokens.items():
        if count < window:
            raise DataError(
                f"the {split} part holds {count} tokens, and one window needs {window}",
                where=source.address,
                hint=f"--model.context-length={count - 1}"
                if count > 2 and context_length
                else "a longer text",
            )
