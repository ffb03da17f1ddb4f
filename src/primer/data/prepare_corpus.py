"""A refined corpus to shards: each document marked, its place written down, its near copies all in the same split."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from primer.assets import sha256_of_lines
from primer.corpus.refine.kept import Corpus, Kept, by_hash
from primer.data.documents import has_documents, in_order
from primer.data.manifest import SPLITS, VERSION, Split
from primer.data.prepare import Progress
from primer.data.shards import ShardDirectory
from primer.data.writer import ShardWriter
from primer.device import cores
from primer.errors import DataError, UsageError
from primer.tokens import BPETokenizer, open_tokenizer
from primer.tokens.tokenizer import Ids

DOCUMENTS = "documents.jsonl"
"""Beside the shards, a line a document: where its tokens begin in its split, how many, where it comes from."""


@dataclass(frozen=True)
class Settings:
    """How a corpus becomes tokens."""

    tokenizer: str = "train"
    """train: a byte-level BPE learned from the training part; else a name or file of one."""
    vocabulary: int = 8192
    """Of the one that is learned; smaller where the text has too few pairs for it."""
    validation_fraction: float = 0.1
    train_tokens: int = 0
    """At most so many in training, of documents that are chosen by hash; the last one is cut. 0: all."""

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise UsageError(
                f"tokens.validation_fraction must lie between 0 and 1, got {self.validation_fraction}"
            )


def _silent(stage: str, done: int, total: int) -> None:
    pass


def prepare_corpus(
    corpus: Corpus, out: Path, settings: Settings, *, threads: int = 0, progress: Progress = _silent
) -> ShardDirectory:
    """Write the corpus' shards, or open those that were made of the same documents in the same way.

    Validation is the documents whose cluster's hash falls below the fraction. Raises DataError where one of the splits
    would be empty, UsageError for a tokenizer that cannot mark documents.
    """
    given, key = given_tokenizer(settings), key_of(corpus, settings)
    if out.exists():
        found = ShardDirectory.open(out)
        if found.key != key:
            raise UsageError("other shards are here", str(out), "another folder")
        return found
    total = _counted(corpus, settings)
    tokenizer = given or _learned(corpus, settings, progress)
    with ShardWriter(out, tokenizer, source=_about(corpus), key=key) as writer:

        def lines() -> Iterator[str]:
            done = 0
            for split in SPLITS:
                start = 0
                chosen = _chosen(corpus, split, settings, tokenizer, threads or cores())
                for document, ids in _encoded(corpus, split, settings, tokenizer, threads or cores()):
                    ids = ids[: chosen.get(document.id, 0)] if chosen is not None else ids
                    if not len(ids):
                        continue
                    writer.write(split, ids)
                    yield _line(document, split, start, len(ids))
                    start += len(ids)
                    done += 1
                    progress("encode", done, total)

        writer.beside(DOCUMENTS, lines())
    return ShardDirectory.open(out, verify=False)


def key_of(corpus: Corpus, settings: Settings) -> str:
    """Of the shards: equal where documents and settings are."""
    given = given_tokenizer(settings)
    how = [str(settings.validation_fraction), str(settings.train_tokens)]
    which = given.fingerprint if given else f"learned, {settings.vocabulary}"
    return sha256_of_lines(["corpus", str(VERSION), corpus.key, which, *how])


def _counted(corpus: Corpus, settings: Settings) -> int:
    """How many documents there are, both splits having some."""
    counts: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    for document in corpus.documents():
        counts[_split(document, settings)] += 1
    total = sum(counts.values())
    for split in SPLITS:
        if not counts[split]:
            raise DataError(
                f"none of the {total} documents that were kept falls into the {split} split",
                str(corpus.plan.out),
                "more input, or another --tokens.validation-fraction" if total else "primer corpus report",
            )
    return total


def _about(corpus: Corpus) -> dict[str, str]:
    return {
        "name": f"{corpus.plan.out.resolve().name} ({corpus.plan.recipe.recipe})",
        "licence": "that of its pages",
        "address": str(corpus.plan.out.absolute()),
        "fingerprint": corpus.key,
    }


def _split(document: Kept, settings: Settings) -> Split:
    return "validation" if document.is_held_out(settings.validation_fraction) else "train"


def given_tokenizer(settings: Settings) -> BPETokenizer | None:
    """A tokenizer that is there already; None: one is learned. UsageError for one that cannot mark documents."""
    name = settings.tokenizer
    if name == "train":
        return None
    given = open_tokenizer(name)
    if not has_documents(given):
        raise UsageError(f"the tokenizer {name} does not mark where documents begin", hint="gpt2, or train")
    return given


def _learned(corpus: Corpus, settings: Settings, progress: Progress) -> BPETokenizer:
    """From the documents of the training split."""

    def texts() -> Iterator[str]:
        for number, document in enumerate(corpus.documents()):
            if _split(document, settings) == "train":
                progress("vocabulary", number, 0)
                yield document.text

    return BPETokenizer.train(texts(), settings.vocabulary, at_most=True)


def _encoded(
    corpus: Corpus, split: Split, settings: Settings, tokenizer: BPETokenizer, threads: int
) -> Iterator[tuple[Kept, Ids]]:
    """The documents of a split with their ids, each behind the token that ends the text before it."""
    chosen = (each for each in corpus.documents() if _split(each, settings) == split)
    return in_order(lambda each: (each, tokenizer.encode_documents([each.text])), chosen, threads)


def _chosen(
    corpus: Corpus, split: Split, settings: Settings, tokenizer: BPETokenizer, threads: int
) -> dict[str, int] | None:
    """How many tokens to take of each document, by id, so that together they are `train_tokens`; None: all."""
    left = settings.train_tokens if split == "train" else 0
    if not left:
        return None
    lengths = {each.id: len(ids) for each, ids in _encoded(corpus, split, settings, tokenizer, threads)}
    if left > sum(lengths.values()):
        raise DataError(
            f"{left:,} tokens were asked for, and there are {sum(lengths.values()):,}",
            str(corpus.plan.out),
            "fewer",
        )
    chosen: dict[str, int] = {}
    for name in sorted(lengths, key=by_hash):
        if not left:
            break
        chosen[name] = min(lengths[name], left)
        left -= chosen[name]
    return chosen


def _line(document: Kept, split: Split, start: int, tokens: int) -> str:
    about = {
        "split": split,
        "start": start,
        "tokens": tokens,
        "id": document.id,
        "source": document.source,
        "url": document.url,
        "cluster": document.cluster,
    }
    return json.dumps(about, ensure_ascii=False) + "\n"
