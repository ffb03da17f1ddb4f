"""Labelled texts as a classifier is trained on them: one line each, each once, and a fifth held out."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from primer.errors import DataError

LEAST_EXAMPLES = 20
HELD_OUT = 5
"""One of so many texts of each label is held out."""


def line(text: str) -> str:
    """A text as fastText reads it: one line of words between blanks, in lower case.

    Punctuation and symbols are words of their own (as fastText's tutorial has it), so that no text can hold a label
    or an end of line, and a number is 0 (its digits, between points and commas). A line is its own line.

    >>> line("It's 10.5%,\\n__label__good")
    "it ' s 0 . 0 % , _ _ label _ _ good"
    """
    spaced = text.lower().translate(_spaced)
    words = ("0" if word.isdecimal() else word for word in spaced.split())
    return " ".join(words)


class _Spaced(dict[int, int | str]):
    """For `str.translate`: blanks around punctuation and symbols, and instead of control characters."""

    def __missing__(self, code: int) -> int | str:
        kind = unicodedata.category(chr(code))
        self[code] = (
            f" {chr(code)} " if kind[0] in "PS" else " " if kind in ("Cc", "Cs", "Zl", "Zp") else code
        )
        return self[code]


_spaced = _Spaced()


def distinct(examples: Iterable[tuple[str, str]]) -> tuple[dict[str, str], int, int]:
    """(label of each different text, examples that repeat one, examples whose text has several labels)."""
    found: dict[str, Counter[str]] = {}
    for number, (text, label) in enumerate(examples, 1):
        where = f"example {number}"
        simple = line(text)
        if not simple:
            raise DataError("an empty text", where, "leave it out")
        if not label or label.split() != [label] or not label.isprintable():
            raise DataError(f"{label!r} is no label", where, "a word without white space")
        found.setdefault(simple, Counter())[label] += 1
    texts = {text: next(iter(labels)) for text, labels in found.items() if len(labels) == 1}
    repeated = sum(found[text].total() - 1 for text in texts)
    contradictory = sum(labels.total() for labels in found.values() if len(labels) > 1)
    counts = Counter(texts.values())
    if len(counts) < 2:
        raise DataError("one label alone, and nothing to tell it from", hint="examples of two labels or more")
    if len(texts) < LEAST_EXAMPLES:
        raise DataError(f"only {len(texts)} different texts", hint=f"{LEAST_EXAMPLES} or more")
    label, fewest = min(counts.items(), key=lambda each: each[1])
    if fewest < 2:
        raise DataError(f"only one text has the label {label}", hint="two or more: one is to test it")
    return texts, repeated, contradictory


def divided(texts: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """(texts to train on, held-out texts): of each label, the fifth with the smallest hashes, and one at least."""
    by_label: dict[str, list[str]] = {}
    for text in shuffled(texts, "held out"):
        by_label.setdefault(texts[text], []).append(text)
    counts = {label: max(1, round(len(those) / HELD_OUT)) for label, those in by_label.items()}
    fitted = [text for label, those in by_label.items() for text in those[counts[label] :]]
    return fitted, [text for label, those in by_label.items() for text in those[: counts[label]]]


def shuffled(texts: Iterable[str], seed: object) -> list[str]:
    """In an order that depends on the texts and the seed alone: fastText learns from the last ones most."""
    return sorted(texts, key=lambda text: blake2b(f"{seed} {text}".encode(), digest_size=16).digest())
