"""Where in a text it offends a rule, so that a person can see what a number means."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from primer.corpus.text.characters import TERMINAL
from primer.corpus.text.statistics import (
    FINEWEB_LINES,
    SHORT_LINE,
    LineRules,
    has_bullet,
    has_ellipsis,
    has_letter,
    is_symbol,
    judge,
    repeated,
)

Span = tuple[int, int]
"""Start, and the end after the last character."""

LONG_WORD = 10
"""Gopher's longest mean: the longer words are what raises it."""


def spans(text: str, words: Sequence[str], reason: str, rules: LineRules = FINEWEB_LINES) -> list[Span]:
    """Where the offence is that datatrove calls `reason`, in order and not overlapping (but for a top n-gram that
    overlaps itself). Empty if it is in what the text lacks (`gopher_short_doc`), or if there is no such reason.

    text: what the rule was asked about: for FineWeb's own reasons, the text that C4's rules left. words: its words.
    """
    if found := re.fullmatch(r"top_(\d+)_gram", reason):
        return _top(text, words, int(found[1]))
    if found := re.fullmatch(r"duplicated_(\d+)_n_grams", reason):
        n = int(found[1])
        places = locate(text, words)
        return [(places[i][0], places[i + n - 1][1]) for i in repeated(words, n)]
    if reason in _OF_WORDS:
        wanted = _OF_WORDS[reason]
        return [span for span, word in zip(locate(text, words), words, strict=True) if wanted(word)]
    if reason == "too_few_sentences":
        return [(a, b) for a, b in _lines(text) if a < b and judge(text[a:b], rules).fate != "kept"]
    return _OF_TEXT[reason](text) if reason in _OF_TEXT else []


def needs_words(reason: str) -> bool:
    """Whether `spans` looks at the words for this reason."""
    return reason in _OF_WORDS or re.fullmatch(r"(top|duplicated)_\d+_.*", reason) is not None


def locate(text: str, words: Iterable[str]) -> list[Span]:
    """Where the words stand, each after the one before. ValueError if one does not."""
    places: list[Span] = []
    end = 0
    for word in words:
        start = text.index(word, end)
        end = start + len(word)
        places.append((start, end))
    return places


def _top(text: str, words: Sequence[str], n: int) -> list[Span]:
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not grams:
        return []
    top = Counter(grams).most_common(1)[0][0]
    places = locate(text, words)
    return [(places[i][0], places[i + n - 1][1]) for i, gram in enumerate(grams) if gram == top]


def _between(text: str, separator: str, start: int = 0) -> Iterator[Span]:
    """What a pattern separates."""
    for found in re.finditer(separator, text):
        if found.start() >= start:
            yield start, found.start()
            start = found.end()
    yield start, len(text)


def _lines(text: str) -> Iterator[Span]:
    """The lines as `str.splitlines` has them, without what ends them."""
    start = 0
    for line in text.splitlines(keepends=True):
        yield start, start + len(line.splitlines()[0])
        start += len(line)


def _again(text: str, parts: Iterable[Span]) -> list[Span]:
    """The parts that came before, but for empty ones."""
    seen: set[str] = set()
    again = []
    for start, end in parts:
        part = text[start:end]
        if part and part in seen:
            again.append((start, end))
        seen.add(part)
    return again


def _paragraphs_again(text: str) -> list[Span]:
    start = len(text) - len(text.lstrip())
    return [(a, b) for a, b in _again(text, _between(text.rstrip(), r"\n{2,}", start)) if b <= len(text)]


def _wanted(
    parts: Callable[[str], Iterable[Span]], wanted: Callable[[str], bool]
) -> Callable[[str], list[Span]]:
    return lambda text: [(a, b) for a, b in parts(text) if wanted(text[a:b])]


def _nonblank(text: str) -> list[Span]:
    return [(a, b) for a, b in _between(text, "\n") if text[a:b].strip()]


def _matches(pattern: str) -> Callable[[str], list[Span]]:
    return lambda text: [found.span() for found in re.finditer(pattern, text)]


_OF_WORDS: dict[str, Callable[[str], bool]] = {
    "gopher_below_alpha_threshold": lambda word: not has_letter(word),
    "gopher_above_avg_threshold": lambda word: len(word) > LONG_WORD and not is_symbol(word),
}
_OF_TEXT: dict[str, Callable[[str], list[Span]]] = {
    "dup_para_frac": _paragraphs_again,
    "dup_para_char_frac": _paragraphs_again,
    "dup_line_frac": lambda text: _again(text, _between(text, r"\n+")),
    "dup_line_char_frac": lambda text: _again(text, _between(text, r"\n+")),
    "gopher_too_many_hashes": _matches("#"),
    "gopher_too_many_ellipsis": _matches(r"\.\.\.|…"),
    "gopher_too_many_bullets": _wanted(_lines, has_bullet),
    "gopher_too_many_end_ellipsis": _wanted(_lines, has_ellipsis),
    "lorem_ipsum": _matches("(?i)lorem ipsum"),
    "curly_bracket": _matches(r"\{"),
    "line_punct_ratio": _wanted(_nonblank, lambda line: line[-1] not in TERMINAL),
    "short_line_ratio": _wanted(_nonblank, lambda line: len(line) <= SHORT_LINE),
    "char_dup_ratio": lambda text: _again(text, _nonblank(text)),
    "list_ratio": _matches("\n"),
}
