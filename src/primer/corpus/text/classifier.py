"""A quality classifier that a person trains on labels of their own: fastText (Joulin et al. 2016, arXiv:1607.01759).

It is trained by floret, explosion's fork of fastText, and read by fasttext-predict, which cannot train. floret's files
differ from fastText's in two more numbers in the head; without these they are fastText's own, so what is written here
is read by any fastText, on any Python.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Any

from primer.assets import reading, replacing
from primer.corpus.text.classifier_examples import distinct, divided, line, shuffled
from primer.errors import DataError, SurroundingsError, UsageError, missing_extra, nearest

PREFIX = "__label__"
Z = 1.959963984540054
"""95 % of the normal distribution lie within ± z standard deviations."""

MAGIC, VERSION = 793712314, 12
FLORETS_OWN = slice(52, 60)
"""Bytes of floret's head that fastText's lacks: the mode and the count of hashes, both 1 in mode "fasttext"."""


@dataclass(frozen=True)
class Interval:
    """A share that was measured, and between which values it lies for all such texts, to 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LabelScore:
    """How a label did on held-out texts. None: no text was given it (precision), none has it (recall)."""

    examples: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Trained:
    """A classifier that was written, and what it is worth on texts that it was not trained on."""

    path: Path
    accuracy: Interval
    confusion: Mapping[str, Mapping[str, int]]
    """confusion[label][said]: how many held-out texts of a label were given which one."""
    labels: Mapping[str, LabelScore]
    trained: int
    """Texts that it was trained on."""
    held_out: int
    duplicates: int
    """Examples that were left out because their text and label were there already."""
    contradictory: int
    """Examples that were left out because their text has several labels."""
    majority: str
    """The label that most texts have."""
    majority_share: float
    """Of the held-out texts, which is the accuracy of always saying it."""

    @property
    def warning(self) -> str | None:
        """Where the accuracy's interval does not lie above the majority's share: that nothing was proven."""
        if self.accuracy.low > self.majority_share:
            return None
        return (
            f"no better than always saying {self.majority} ({self.majority_share:.0%}), as far as can be told"
        )


@dataclass(frozen=True)
class Classifier:
    """A classifier that `train` wrote, or any whole fastText model whose output layer is not compressed."""

    path: Path

    @staticmethod
    def open(path: Path) -> Classifier:
        """Raises DataError for a file that is no such model, or not whole."""
        found = Classifier(path)
        assert found.labels
        return found

    def score(self, text: str, label: str) -> float:
        """The probability of a label, in [0, 1]. UsageError for one that the model does not have."""
        if label not in self.labels:
            close = nearest(label, list(self.labels)) or ", ".join(self.labels)
            raise UsageError(f"this classifier has no label {label!r}", str(self.path), close)
        return dict(self.scores(text))[label]

    def scores(self, text: str) -> list[tuple[str, float]]:
        """(label, probability), the likeliest first."""
        names, likely = self._loaded.predict(line(text), k=-1)
        return [
            (name.removeprefix(PREFIX), min(max(float(each), 0.0), 1.0))
            for name, each in zip(names, likely, strict=True)
        ]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All of its labels."""
        return tuple(sorted(label for label, _ in self.scores("")))

    @cached_property
    def _loaded(self) -> Any:
        try:
            from fasttext.FastText import _FastText
        except ImportError as error:
            raise missing_extra("fasttext-predict", "corpus") from error
        damaged = DataError("this is no whole fastText model", str(self.path), "train it again")
        if not _whole(self.path):
            raise damaged
        try:
            return _FastText(str(self.path))
        except (ValueError, RuntimeError, MemoryError) as error:
            raise damaged from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Classifier, (self.path,)


def train(
    examples: Iterable[tuple[str, str]],
    out: Path,
    *,
    epochs: int = 25,
    lr: float = 0.5,
    dim: int = 32,
    word_ngrams: int = 2,
    buckets: int = 1 << 17,
    seed: int = 0,
) -> Trained:
    """Train on four fifths of the (text, label) examples, write the model to `out`, and test it on the last fifth.

    Which texts are held out is decided by a hash of the text as the model sees it (`line`), for each label by itself;
    no text is on both sides. The same examples, in any order, make the same file, since one thread trains. buckets: how
    many vectors all word n-grams share; each takes 4 · dim bytes (16.8 MB as it is).

    DataError for fewer than two labels, fewer than 20 different texts, a label of one text, an empty text, a label with
    white space; UsageError for impossible settings; SurroundingsError where floret is missing.
    """
    _require_possible(epochs, lr, dim, word_ngrams, buckets)
    floret = _floret()
    texts, duplicates, contradictory = distinct(examples)
    fitted, held = divided(texts)
    with tempfile.TemporaryDirectory() as folder:
        file, model = Path(folder, "examples.txt"), Path(folder, "model.bin")
        file.write_text(
            "".join(f"{PREFIX}{texts[each]} {each}\n" for each in shuffled(fitted, seed)), "utf-8"
        )
        try:
            floret.train_supervised(
                str(file),
                epoch=epochs,
                lr=lr,
                dim=dim,
                wordNgrams=word_ngrams,
                bucket=buckets,
                minCount=1,
                seed=seed,
                thread=1,
                verbose=0,
                mode="fasttext",
            ).save_model(str(model))
        except RuntimeError as error:
            raise UsageError(f"the training failed ({error})", hint="a smaller learning rate") from error
        _write_plain(model, out)
    said = [(texts[each], Classifier(out).scores(each)[0][0]) for each in held]
    majority = max(sorted(set(texts.values())), key=Counter(texts.values()).__getitem__)
    return _tested(out, said, majority, len(fitted), duplicates, contradictory)


def wilson(right: int, count: int) -> Interval:
    """right / count with Wilson's interval (1927), which is right for few texts and for shares near 0 and 1, too.

    (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n),  p = right/count, n = count
    """
    p, square = right / count, Z * Z / count
    centre, width = p + square / 2, Z * sqrt(p * (1 - p) / count + square / (4 * count))
    low, high = (centre - width) / (1 + square), (centre + width) / (1 + square)
    return Interval(p, max(0.0, min(low, p)), min(1.0, max(high, p)))


def _require_possible(epochs: int, lr: float, dim: int, word_ngrams: int, buckets: int) -> None:
    if min(epochs, dim, word_ngrams, buckets) < 1 or not 0 < lr < float("inf"):
        raise UsageError(
            "epochs, dim, word_ngrams and buckets must be 1 or more, and lr above 0",
            f"epochs={epochs}, lr={lr}, dim={dim}, word_ngrams={word_ngrams}, buckets={buckets}",
        )


def _floret() -> Any:
    try:
        import floret
    except ImportError as error:
        if sys.version_info >= (3, 13):
            raise SurroundingsError(
                "floret, which trains classifiers, is not made for this Python",
                hint="train with Python 3.12; what it writes is read here too",
            ) from error
        raise missing_extra("floret", "corpus") from error
    return floret


def _write_plain(model: Path, out: Path) -> None:
    """floret's file as one of fastText."""
    raw = model.read_bytes()
    if struct.unpack_from("<ii", raw) != (MAGIC, VERSION) or struct.unpack("<ii", raw[FLORETS_OWN]) != (1, 1):
        raise SurroundingsError("this floret writes another format", hint="floret 0.10.5")
    with replacing(out) as file:
        file.write(raw[: FLORETS_OWN.start])
        file.write(raw[FLORETS_OWN.stop :])


def _whole(path: Path) -> bool:
    """Whether a file begins as fastText's do, and ends in an output layer of the size that its head says.

    fastText itself would read a file that was cut off, and make up the rest.
    """
    with reading(path) as file:
        head = file.read(76)
        if len(head) < 76 or struct.unpack_from("<ii", head) != (MAGIC, VERSION):
            return False
        dim, labels = struct.unpack_from("<i", head, 8)[0], struct.unpack_from("<i", head, 72)[0]
        size = file.seek(0, 2)
        start = size - 16 - 4 * dim * labels
        if dim < 1 or labels < 1 or start < 76:
            return False
        file.seek(start)
        return struct.unpack("<qq", file.read(16)) == (labels, dim)


def _tested(
    out: Path,
    said: Sequence[tuple[str, str]],
    majority: str,
    trained: int,
    duplicates: int,
    contradictory: int,
) -> Trained:
    pairs, labels = Counter(said), sorted({label for label, _ in said})
    confusion = {label: {other: pairs[label, other] for other in labels} for label in labels}
    have = {label: sum(confusion[label].values()) for label in labels}
    given = {label: sum(row[label] for row in confusion.values()) for label in labels}
    scores = {
        label: LabelScore(
            have[label],
            confusion[label][label] / given[label] if given[label] else None,
            confusion[label][label] / have[label] if have[label] else None,
        )
        for label in labels
    }
    right = sum(confusion[label][label] for label in labels)
    return Trained(
        path=out,
        accuracy=wilson(right, len(said)),
        confusion=confusion,
        labels=scores,
        trained=trained,
        held_out=len(said),
        duplicates=duplicates,
        contradictory=contradictory,
        majority=majority,
        majority_share=have[majority] / len(said),
    )
