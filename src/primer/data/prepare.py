"""Text to shards: the only place where files become tokens.

Two passes, each streaming: the first learns the alphabet and the length, the second encodes and writes.
Memory does not grow with the text. With a tokenizer that marks where documents begin (`data/documents.py`), the second
pass uses all cores, and goes on where a killed one was.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from primer.assets import cache_dir, log, reusable, sha256_of_lines
from primer.corpus import NAMED, Source, open_sources
from primer.data import documents as dealing
from primer.data.documents import Encoded, Stretch, encode, has_documents, in_order, jobs, stretches
from primer.data.manifest import MANIFEST, SPLITS, VERSION, Counts, Split, shard_name
from primer.data.shards import TOKENIZER, ShardDirectory
from primer.data.writer import ShardWriter
from primer.device import cores
from primer.errors import DataError, UsageError
from primer.tokens import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    UnknownCharacterError,
    blocks,
    open_tokenizer,
)
from primer.tokens.blocks import rejoined
from primer.tokens.char import alphabet
from primer.tokens.tokenizer import END_OF_TEXT, Ids

NOTE_SECONDS = 10.0
"""How often it is noted how far the work is: what a killed process loses at most."""

SHORTEST = 16
"""A context that is worth advising: a shorter one would learn next to nothing."""

Progress = Callable[[str, int, int], None]
"""Called with a stage and how far it is: ("read", characters so far, bytes of the files), then ("encode", characters,
all of them); or, with a limit, ("tokens", so far, the limit). A total of 0 is not known (of packed files)."""


def prepare(
    spec: str | Path | Sequence[str | Path],
    *,
    tokenizer: str | Tokenizer = "char",
    out: Path | None = None,
    validation_fraction: float = 0.1,
    unknown: Literal["error", "skip"] = "error",
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    field: str = "text",
    context_length: int | None = None,
    limit_tokens: int = 0,
    threads: int = 0,
    progress: Progress | None = None,
) -> ShardDirectory:
    """Turn sources into a shard directory, or open the one that was made from the same text in the same way.

    The last `validation_fraction` of the characters is the validation split. `tokenizer` is "char" (its
    vocabulary is that of the whole text), a name or file of one, or one itself. `out=None`: shards lie in the cache.
    With `context_length`, a split without one whole window is refused. threads: how many encode; 0: all cores.

    limit_tokens: with a tokenizer that marks documents, only so many tokens. The text is then read once, so its
    end is not known, and the validation split is taken from its beginning, as in the published FineWeb token sets.
    """
    if not 0 < validation_fraction < 1:
        raise UsageError(f"data.validation_fraction must lie between 0 and 1, got {validation_fraction}")
    for name, value in (("threads", threads), ("limit_tokens", limit_tokens)):
        if value < 0:
            raise UsageError(f"{name} must not be negative, got {value}", hint="0")
    specs = [spec] if isinstance(spec, str | Path) else list(spec)
    source = open_sources(
        specs,
        encoding=encoding,
        encoding_errors=encoding_errors,
        field=field,
        limit_tokens=limit_tokens,
    )
    chosen: Literal["char"] | Tokenizer = "char"
    if not (isinstance(tokenizer, str) and tokenizer == "char"):
        chosen = open_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
    if limit_tokens and (chosen == "char" or not has_documents(chosen)):
        raise UsageError("a limit in tokens needs a tokenizer that marks documents", hint="--tokenizer=gpt2")
    threads = threads or cores()
    job = _Job(
        source,
        chosen,
        validation_fraction,
        limit_tokens,
        unknown,
        context_length,
        threads,
        progress or _silent,
    )
    key = job.key()
    path = Path(out) if out is not None else cache_dir() / "shards" / key[:16]
    shards = _reuse(path, key, ours=out is None)
    if shards is None:
        job.write(path, key)
        shards = ShardDirectory.open(path, verify=False)
        if shards.key != key:  # another process was faster, with another text
            raise _other_text(path)
    check_lengths(shards.counts, source.address, context_length)
    if skipped := sum(counts["skipped"] for counts in shards.counts.values()):
        log.warning("dropped %d characters that the tokenizer does not know", skipped)
    return replace(shards, source=job.about())  # the same text may have been read under another name


def is_prepared(spec: str | Path) -> bool:
    """Whether this is a folder of shards, whole or not, and no text.

    A manifest.json alone may be anybody's, and a name wins over a folder that is called the same, as in `open_source`.
    """
    beside = (TOKENIZER, *(shard_name(split, 0) for split in SPLITS))
    folder = Path(spec)
    return (
        spec not in NAMED
        and os.path.isfile(folder / MANIFEST)
        and any(os.path.isfile(folder / name) for name in beside)
    )


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _reuse(path: Path, key: str, ours: bool) -> ShardDirectory | None:
    """What lies at `path`, if it is whole and of this key. Only in the cache may anything be thrown away."""
    if ours:
        return reusable(ShardDirectory.open, path, key)
    if not path.exists():
        return None
    shards = ShardDirectory.open(path)
    if shards.key != key:
        raise _other_text(path)
    return shards


def _other_text(path: Path) -> UsageError:
    return UsageError(
        "the shards here were made from another text, or otherwise", str(path), "another folder"
    )


@dataclass(frozen=True)
class _Job:
    """One text on its way into shards."""

    source: Source
    tokenizer: Literal["char"] | Tokenizer
    validation_fraction: float
    limit_tokens: int
    unknown: Literal["error", "skip"]
    context_length: int | None
    threads: int
    progress: Progress

    def key(self) -> str:
        """All that decides the tokens, as a hash: equal keys, equal shards."""
        wanted = self.tokenizer
        return sha256_of_lines(
            [
                f"format {VERSION}",
                self.source.fingerprint,
                *self.source.readers(),
                self.source.decoding.encoding,
                self.source.decoding.errors,
                self.source.decoding.field,
                wanted if isinstance(wanted, str) else wanted.fingerprint,
                self.unknown,
                str(self.validation_fraction),
                *([f"{self.limit_tokens} tokens"] if self.limit_tokens else []),
            ]
        )

    def about(self) -> dict[str, str]:
        """What the shards say of their text."""
        names = ("name", "licence", "address", "fingerprint")
        return {name: getattr(self.source, name) for name in names}

    def write(self, path: Path, key: str) -> None:
        """Both passes. Nothing appears at `path` unless everything went well."""
        stamp = self.source.stamp()
        documents = self.tokenizer != "char" and has_documents(self.tokenizer)
        characters, letters = (0, "") if self.limit_tokens else self._survey(documents)
        tokenizer = self._tokenizer(letters)
        train = int((1 - self.validation_fraction) * characters)
        resume = f"{dealing.JOB} {blocks.BLOCK} {blocks.WINDOW}" if documents else ""
        with ShardWriter(path, tokenizer, source=self.about(), key=key, resume=resume) as writer:
            if not has_documents(tokenizer):
                self._write_text(writer, tokenizer, train, characters)
            elif self.limit_tokens:
                self._write_beginning(writer, tokenizer)
            else:
                self._write_documents(writer, tokenizer, train, characters)
            read = sum(counts["characters"] + counts["skipped"] for counts in writer.counts.values())
            if self.source.stamp() != stamp or (read != characters and not self.limit_tokens):
                raise DataError("the text changed while it was read", self.source.address, "try again")
            check_lengths(writer.counts, self.source.address, self.context_length)

    def _write_text(self, writer: ShardWriter, tokenizer: Tokenizer, train: int, characters: int) -> None:
        """Everything as one text."""
        position = 0
        simple = isinstance(tokenizer, CharTokenizer | ByteTokenizer)
        text = self.source.text() if simple else rejoined(self.source.text())
        for split, piece in _split(text, train):
            ids = self._encode(tokenizer, piece, position)
            skipped = len(piece) - len(ids) if isinstance(tokenizer, CharTokenizer) else 0
            size = len(piece) if piece.isascii() and not skipped else None
            writer.write(split, ids, characters=len(piece) - skipped, size=size, skipped=skipped)
            position += len(piece)
            self.progress("encode", position, characters)

    def _write_documents(
        self, writer: ShardWriter, tokenizer: BPETokenizer, train: int, characters: int
    ) -> None:
        """Each document for itself."""
        tokenizer.mention_slowness(characters)
        given = jobs(stretches(self.source.documents(), train))
        for found in self._encoded(given, writer, tokenizer):
            writer.write(found.split, found.ids, characters=found.characters, size=found.size)
            done = sum(counts["characters"] for counts in writer.counts.values())
            self.progress("encode", done, characters)

    def _encoded(
        self, given: Iterator[list[Stretch]], writer: ShardWriter, tokenizer: BPETokenizer
    ) -> Iterator[Encoded]:
        """Jobs, encoded, to be written at once; those that an earlier process did are passed over."""
        done = writer.jobs
        if done:
            log.warning("going on after job %d, which an earlier process did", done)
        noted = time.monotonic()
        work = partial(encode, tokenizer=tokenizer)
        for number, found in enumerate(
            in_order(work, islice(given, done, None), self.threads), start=done + 1
        ):
            yield found
            if time.monotonic() - noted >= NOTE_SECONDS:
                writer.note(number)
                noted = time.monotonic()

    def _write_beginning(self, writer: ShardWriter, tokenizer: BPETokenizer) -> None:
        """Documents until there are enough tokens, for validation first.

        The document in which the validation part is full is cut there, and goes on in training, where it begins anew as
        where the splits of a whole text meet.
        """
        goal = max(1, round(self.validation_fraction * self.limit_tokens))
        begin = np.array([tokenizer.special_tokens[END_OF_TEXT]], dtype=tokenizer.dtype)
        given = jobs(stretches(self.source.documents(), train=sys.maxsize))
        for found in self._encoded(given, writer, tokenizer):
            have = {split: writer.counts[split]["tokens"] for split in SPLITS}
            full = have["train"] or have["validation"] >= goal
            cut = 0 if full else goal - have["validation"]
            first, rest = found.ids[:cut], found.ids[cut:]
            if not have["train"] and len(rest) and rest[0] != begin[0]:
                rest = np.concatenate([begin, rest])
            rest = rest[: self.limit_tokens - have["train"] - have["validation"] - len(first)]
            parts: tuple[tuple[Split, Ids], ...] = (("validation", first), ("train", rest))
            for split, ids in parts:
                if len(ids) == len(found.ids) and (split == "validation" or full):
                    writer.write(split, ids, characters=found.characters, size=found.size)
                elif len(ids):
                    writer.write(split, ids)
            done = sum(writer.counts[split]["tokens"] for split in SPLITS)
            self.progress("tokens", done, self.limit_tokens)
            if done >= self.limit_tokens:
                return
        done = sum(writer.counts[split]["tokens"] for split in SPLITS)
        if done < self.limit_tokens / 2:  # validation would be another part of it than was asked for
            raise DataError(
                f"the text holds {done:,} tokens, far fewer than limit_tokens={self.limit_tokens:,}",
                self.source.address,
                "leave --limit-tokens out",
            )
        log.warning("the text ended after %s of %s tokens", f"{done:,}", f"{self.limit_tokens:,}")

    def _survey(self, documents: bool) -> tuple[int, str]:
        """(characters, all distinct ones in the order of Unicode), refusing a text that teaches nothing.

        documents: their characters, without those that would stand between them; and of the distinct ones only some.
        """
        count = 0
        size = 0 if self.source.packed else sum(size for size, _ in self.source.stamp())

        def counted() -> Iterator[str]:
            nonlocal count
            found = self.source.documents()
            for piece in (document.text for document in found) if documents else self.source.text():
                count += len(piece)
                self.progress("read", count, size)
                yield piece

        letters = "".join(sorted((_some if documents else alphabet)(counted())))
        if not count:
            complaint = "the text is empty"
        elif not letters.strip():
            complaint = "the text is nothing but white space"
        elif len(letters) == 1:
            complaint = f"the text holds one distinct character, {letters!r}: there is nothing to learn"
        else:
            return count, letters
        raise DataError(complaint, where=self.source.address, hint="name another text")

    def _tokenizer(self, letters: str) -> Tokenizer:
        match self.tokenizer:
            case "char":
                return CharTokenizer(letters, self.unknown)
            case CharTokenizer(characters=characters):
                return CharTokenizer(characters, self.unknown)
            case other:
                return other

    def _encode(self, tokenizer: Tokenizer, piece: str, position: int) -> Ids:
        try:
            return tokenizer.encode(piece, special="text")
        except UnknownCharacterError as error:
            where = self.source.address
            raise UnknownCharacterError(error.character, position + error.position, where) from error


def check_lengths(counts: dict[Split, Counts], where: str, context_length: int | None) -> None:
    """Both splits hold at least one window, or DataError says which does not."""
    window = (context_length or 1) + 1
    for split in SPLITS:
        count = counts[split]["tokens"]
        if count < window:
            fitting = min(counts[each]["tokens"] for each in SPLITS) - 1
            raise DataError(
                f"the {split} part of the text holds {count} tokens, and one window needs {window}",
                where=where,
                hint=f"--model.context-length={fitting}"
                if context_length and fitting >= SHORTEST
                else "a longer text",
            )


def _some(texts: Iterable[str]) -> set[str]:
    """Characters of the first texts: more than one, and not only white space, where there are such. Reads them all."""
    seen: set[str] = set()
    for text in texts:
        if len(seen) < 2 or not "".join(seen).strip():
            seen.update(text)
    return seen


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
