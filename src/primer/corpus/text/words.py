"""Words and sentences as spaCy's English tokenizer counts them: spaCy's rules for English, written anew.

FineWeb's thresholds (a page has 50 words, words have 3 to 10 letters on average, …) were set on the words of
`spacy.blank("en")`, so ours must be the same. The algorithm is the one that spaCy documents
(https://spacy.io/usage/linguistic-features#how-tokenizer-works): at white space a text falls into chunks; marks come
off a chunk's front and end until a special case or a bare core is left; a core that is no web address is cut at the
marks inside it; at last, words that together are a special case become that case's words, as ":" and ")" do in "x:)".

That last step looks at the whole text: ":(" in "x:( (" stays cut, since spaCy sees ":((" there, a longer special case,
and then gives it up for its space. So the words of a chunk depend on the chunk alone, unless it has words joined so,
and even then hardly ever: in 3,000 texts of 1,500 pages, 5.6 million chunks, not once.

datatrove drops the word IS_ALPHA, wherever it meets it for the second time in a process; here it is a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from primer.corpus.text.word_exceptions import special_cases
from primer.corpus.text.word_patterns import (
    INFIX,
    is_address,
    prefix_length,
    sentence_marks,
    shape,
    suffix_length,
)

SPECIAL_CASES = special_cases()
LONGEST_CASE = max(map(len, SPECIAL_CASES))
SENTENCE_MARKS = sentence_marks()

CACHED_CHUNKS = 1 << 15
"""How many chunks are remembered; then all are forgotten."""
CACHED_LENGTH, CACHED_WORDS = 32, 8
"""Longer chunks are seldom seen twice, and are not remembered: so the memory holds 40 MB at the very most."""

PLAIN_MARKS = frozenset(",;:!?)")
"""After letters, these are words of their own and never part of a special case."""

SURPLUS = " "
"""What stands for white space beyond one space between two chunks: a word to spaCy."""

Span = tuple[int, int]
"""First place, and the place after the last."""
Node = dict[str, "Node"]
"""A tree of words: what may follow."""
END = ""
"""Marks a place in the tree where a special case ends."""


def _first_pass(chunk: str, known: dict[str, tuple[str, ...]]) -> list[str]:
    """Marks off the ends, then a special case, an address, or a core cut at the marks inside it.

    chunk: no special case itself. Its core is chunk[start:stop], which is copied only where it is short enough for a
    special case: else the time that "====…" takes would grow by the square of its length.
    """
    front: list[str] = []
    back: list[str] = []
    start, stop = 0, len(chunk)
    while start < stop:
        head = start + prefix_length(chunk, start, stop)
        if start < head and _is_case(chunk, head, stop, known):
            front.append(chunk[start:head])
            start = head
            break
        tail = stop - suffix_length(chunk, head, stop)
        if start == head and tail == stop:
            return front + _cut_inside(chunk[start:stop]) + back[::-1]
        if tail < stop:
            back.append(chunk[tail:stop])
            stop = tail
            if _is_case(chunk, start, stop, known):
                break
        if start < head:
            front.append(chunk[start:head])
            start = head
            if _is_case(chunk, start, stop, known):
                break
    return [*front, *known.get(chunk[start:stop], ()), *reversed(back)]


def _is_case(chunk: str, start: int, stop: int, known: dict[str, tuple[str, ...]]) -> bool:
    return stop - start <= LONGEST_CASE and chunk[start:stop] in known


def _cut_inside(core: str) -> list[str]:
    """The words of a core, cut at the marks inside it unless it is an address."""
    if core.isalnum():
        return [core]
    marks = [mark.span() for mark in INFIX.finditer(shape(core))]
    if not marks or is_address(core):
        return [core]
    edges = [0, *(edge for mark in marks for edge in mark), len(core)]
    return [core[start:stop] for start, stop in pairwise(edges) if start < stop]


def _tree_of_cases() -> Node:
    """The special cases that the first pass would cut, as the words that it would make of them."""
    root: Node = {}
    for chunk in SPECIAL_CASES:
        words = _first_pass(chunk, {})
        if len(words) > 1:
            node = root
            for word in words:
                node = node.setdefault(word, {})
            node[END] = {}
    return root


def _pairs(tree: Node) -> Iterator[tuple[str, str]]:
    """Words that follow each other in a special case."""
    for word, then in tree.items():
        yield from ((word, after) for after in then if after is not END)
        yield from _pairs(then)


_cases = _tree_of_cases()
_neighbours = frozenset(_pairs(_cases))


def _find_cases(words: Sequence[str]) -> Iterator[Span]:
    """Every place where words that follow each other are together a special case."""
    for start, first in enumerate(words):
        if first not in _cases:
            continue
        node: Node | None = _cases[first]
        stop = start + 1
        while node is not None:
            if END in node:
                yield start, stop
            node = node.get(words[stop]) if stop < len(words) else None
            stop += 1


def _join_cases(words: Sequence[str], homes: Sequence[int]) -> list[str]:
    """Words that together are a special case become its words; homes says of which chunk each word is.

    Long ones go first. As in spaCy, one that spans chunks changes nothing and yet is in the way of others, as is one
    that came too late itself.
    """
    found = sorted(_find_cases(words), key=lambda span: (span[0] - span[1], span[0]))
    if not found:
        return list(words)
    taken: set[int] = set()
    chosen: dict[int, int] = {}
    for start, stop in found:
        if start not in taken and stop - 1 not in taken and homes[start] == homes[stop - 1]:
            chosen[start] = stop
        taken.update(range(start, stop))
    joined: list[str] = []
    place = 0
    while place < len(words):
        stop = chosen.get(place, place + 1)
        joined += SPECIAL_CASES["".join(words[place:stop])] if place in chosen else words[place:stop]
        place = stop
    return joined


def _split(chunk: str) -> tuple[Sequence[str], Sequence[str]]:
    """The words of a chunk, and what they were before special cases were joined."""
    special = SPECIAL_CASES.get(chunk)
    if special is not None:
        return special, special
    if chunk.isalpha():
        return (chunk,), (chunk,)
    body, last = chunk[:-1], chunk[-1]
    plain = last in PLAIN_MARKS or (last == "." and "a" <= body[-1:] <= "z")
    if plain and body.isalpha() and body not in SPECIAL_CASES:
        return (body, last), (body, last)
    words = _first_pass(chunk, SPECIAL_CASES)
    if len(words) == 1 or _cases.keys().isdisjoint(words):
        return words, words
    return _join_cases(words, [0] * len(words)), words


def split_chunk(chunk: str) -> list[str]:
    """The words of a text without white space: `"(don't!)"` → `["(", "do", "n't", "!", ")"]`."""
    return list(_split(chunk)[0])


_remembered: dict[str, tuple[str, ...]] = {}
_before_joining: dict[str, tuple[str, ...]] = {}
"""Of the chunks whose words depend on their neighbours, the words before special cases were joined."""
_too_long: list[str] = []
"""Those of _before_joining that are not remembered beyond their text."""


def _learn(chunk: str) -> tuple[str, ...]:
    words, before = map(tuple, _split(chunk))
    lasting = len(chunk) <= CACHED_LENGTH and len(words) <= CACHED_WORDS
    if lasting:
        _remembered[chunk] = words
    if words != before:
        _before_joining[chunk] = before
        if not lasting:
            _too_long.append(chunk)
    return words


def _forget() -> None:
    """Between texts, so that what a text needs is there until its end."""
    for chunk in _too_long:
        _before_joining.pop(chunk, None)
    _too_long.clear()
    if len(_remembered) >= CACHED_CHUNKS:
        _remembered.clear()
        _before_joining.clear()


def words(text: str) -> list[str]:
    """The words of a text, in order: spaCy's tokens for English without those of white space.

    >>> words("It's 10am: don't (ever) e-mail me.")
    ['It', "'s", '10', 'am', ':', 'do', "n't", '(', 'ever', ')', 'e', '-', 'mail', 'me', '.']
    """
    _forget()
    chunks = text.split()
    found = _words_of_each(chunks)
    if not _may_span(chunks):
        return found
    return [word for word in _words_and_surplus(text) if word != SURPLUS]


def _words_of_each(chunks: Iterable[str]) -> list[str]:
    return [word for chunk in chunks for word in _remembered.get(chunk) or _learn(chunk)]


def _before(chunk: str) -> tuple[str, ...]:
    return _before_joining.get(chunk) or _remembered.get(chunk) or _learn(chunk)


def _may_span(chunks: Sequence[str]) -> bool:
    """Whether a special case may reach from a chunk with joined words into the next, or from the one before."""
    if _before_joining.keys().isdisjoint(chunks):
        return False
    return any(
        (_before(left)[-1], _before(right)[0]) in _neighbours
        for left, right in pairwise(chunks)
        if left in _before_joining or right in _before_joining
    )


_PIECES = re.compile(r"\s+|\S+")


def _pieces(text: str) -> list[str]:
    """Chunks, and SURPLUS for white space that is not just one space between them."""
    pieces = _PIECES.findall(text)
    return [
        SURPLUS if piece.isspace() else piece
        for place, piece in enumerate(pieces)
        if piece != " " or not place
    ]


def _join_across(pieces: Iterable[str]) -> list[str]:
    """The words of the pieces, with special cases looked for in the whole text."""
    found: list[str] = []
    homes: list[int] = []
    for home, piece in enumerate(pieces):
        found += _before(piece)
        homes += [home] * (len(found) - len(homes))
    return _join_cases(found, homes)


def _words_and_surplus(text: str) -> list[str]:
    """All that spaCy takes for words."""
    _forget()
    pieces = _pieces(text)
    found = _words_of_each(pieces)
    return _join_across(pieces) if _may_span(pieces) else found


def is_punctuation(word: str) -> bool:
    """Whether Unicode calls every character of the word punctuation (+ and $ are symbols)."""
    return all(unicodedata.category(character).startswith("P") for character in word)


def sentence_final(word: str) -> bool:
    """Whether the word is a mark that ends a sentence: . ! ? and those of other scripts; "..." and "…" do not."""
    return word in SENTENCE_MARKS


def count_sentences(line: str) -> int:
    """How many sentences spaCy's Sentencizer sees.

    After a word that ends a sentence, the next one begins with the first that is neither such a word nor punctuation;
    white space beyond one space is a word that is neither.
    """
    sentences = 0
    ended = True
    for word in _words_and_surplus(line):
        if sentence_final(word):
            sentences += not sentences
            ended = True
        elif ended and not (sentences and is_punctuation(word)):
            sentences += 1
            ended = False
    return sentences
