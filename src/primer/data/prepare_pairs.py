"""Parallel text to pairs of ids: one vocabulary learned from both languages, then every sentence encoded.

Everything streams, so that memory does not grow with the text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from primer.assets import cache_dir, log, reusable, sha256_of_lines, whole_folder
from primer.corpus.pair import Pair, Rejected
from primer.corpus.parallel import ParallelText
from primer.data.pair_directory import SIDES, VERSION, PairDirectory, SentenceWriter, write_manifest
from primer.data.shards import TOKENIZER
from primer.errors import DataError, UsageError
from primer.tokens import BPETokenizer, Tokenizer, open_tokenizer
from primer.tokens.tokenizer import END_OF_TEXT, Ids

SPLITS = ("train", "validation", "test")

Progress = Callable[[str, int, int], None]
"""Called with a stage, the pairs so far, and all of them (0: not known)."""


def prepare_pairs(
    text: ParallelText,
    *,
    tokenizer: str | Tokenizer = "bpe",
    vocab_size: int = 8192,
    validation_fraction: float = 0.05,
    progress: Progress | None = None,
) -> PairDirectory:
    """The pairs of a text as ids, in the cache; or those that were made from the same text in the same way.

    tokenizer: "bpe" learns one of `vocab_size` from the training pairs, both languages together (a smaller one where
    the text has no more pairs of bytes to join); else a name, a file, or one that exists, with an end-of-text token.
    Where a text has no validation part of its own, `validation_fraction` of its pairs are one: those whose source says
    so by its hash, so that a sentence that occurs twice is on one side.
    """
    learn = isinstance(tokenizer, str) and tokenizer == "bpe"
    chosen = None if learn else open_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
    if chosen is not None and END_OF_TEXT not in chosen.special_tokens:
        raise UsageError(
            f"the {chosen.name} tokenizer has no token that ends a sentence", hint="--data.tokenizer=bpe"
        )
    how = f"bpe {vocab_size}" if chosen is None else chosen.fingerprint
    key = sha256_of_lines([f"pairs {VERSION}", text.fingerprint, how, str(validation_fraction)])
    path = cache_dir() / "pairs" / key[:16]
    found = reusable(PairDirectory.open, path, key)
    if found is None:
        job = _Job(text, validation_fraction, progress or (lambda stage, done, total: None))
        try:
            job.write(path, key, chosen, vocab_size)
        except UsageError:
            if not path.exists():  # it does where another process was faster
                raise
        found = PairDirectory.open(path)
    for split, why in found.rejected.items():
        log.warning("%s: pairs left out: %s", split, why)
    return found


class _Job:
    """One parallel text on its way into ids."""

    def __init__(self, text: ParallelText, validation_fraction: float, progress: Progress) -> None:
        self.text, self.fraction, self.progress = text, validation_fraction, progress
        self.rejected = {split: Rejected() for split in text.splits()}

    def pairs(self, split: str, *, count: bool = False) -> Iterator[Pair]:
        """The pairs of a split; what is left out is counted once, when it is asked for."""
        own = self.text.splits()
        if "validation" in own or split == "test":
            yield from self.text.pairs(split, self.rejected[split] if count else None)
            return
        for pair in self.text.pairs("train", self.rejected["train"] if count and split == "train" else None):
            if self._held_out(pair) == (split == "validation"):
                yield pair

    def _held_out(self, pair: Pair) -> bool:
        digest = hashlib.sha256(pair.source.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") < self.fraction * 2**64

    def write(self, path: Path, key: str, tokenizer: Tokenizer | None, vocab_size: int) -> None:
        """Both passes. Nothing appears at `path` unless everything went well."""
        splits = [split for split in SPLITS if split != "test" or "test" in self.text.splits()]
        if tokenizer is None:
            tokenizer = BPETokenizer.train(self._sentences(), vocab_size, at_most=True)
        with whole_folder(path) as folder:
            counts, files = {}, {}
            for split in splits:
                counts[split], facts = self._write_split(folder, split, tokenizer)
                files.update(facts)
            for split in ("train", "validation"):
                if not counts[split]["pairs"]:
                    raise DataError(
                        f"this text has no pairs for the {split} part", self.text.address, "a longer text"
                    )
            (folder / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
            about = ("name", "licence", "address", "fingerprint")
            write_manifest(
                folder,
                {
                    "key": key,
                    "source": {name: str(getattr(self.text, name)) for name in about},
                    "tokenizer": tokenizer.fingerprint,
                    "counts": counts,
                    "rejected": {split: str(found) for split, found in self.rejected.items() if found.total},
                    "files": files,
                },
            )

    def _sentences(self) -> Iterator[str]:
        """Every sentence of the training pairs, in both languages."""
        for number, pair in enumerate(self.pairs("train"), start=1):
            yield from (pair.source, pair.target)
            if number % 1000 == 0:
                self.progress("read", number, 0)

    def _write_split(
        self, folder: Path, split: str, tokenizer: Tokenizer
    ) -> tuple[dict[str, int], dict[str, Any]]:
        end = np.array([tokenizer.special_tokens[END_OF_TEXT]])
        writers = {side: SentenceWriter(folder, f"{split}.{side}", tokenizer.dtype) for side in SIDES}
        counts = dict.fromkeys(("pairs", "source_tokens", "target_tokens"), 0)
        for pair in self.pairs(split, count=True):
            for side, writer in writers.items():
                ids = np.concatenate([_encoded(tokenizer, getattr(pair, side), pair.place), end])
                writer.write(ids)
                counts[f"{side}_tokens"] += len(ids)
            counts["pairs"] += 1
            if counts["pairs"] % 1000 == 0:
                self.progress(f"encode {split}", counts["pairs"], 0)
        facts: dict[str, Any] = {}
        for writer in writers.values():
            facts.update(writer.close())
        return counts, facts


def _encoded(tokenizer: Tokenizer, sentence: str, place: str) -> Ids:
    try:
        return tokenizer.encode(sentence, special="text")
    except DataError as error:
        error.where = place
        raise
