"""What FineWeb's filters know of a page: every number that a rule compares with its threshold, in plain Python.

Four filters follow one another (Penedo et al. 2024, arXiv:2406.17557, sections 3.3, 3.5 and 3.6): Gopher's on
repetition, Gopher's on quality (Rae et al. 2021, arXiv:2112.11446, appendix A.1.1 and Table A1), C4's on lines (Raffel
et al. 2020, arXiv:1910.10683, section 2.2), and FineWeb's own on the lines that C4's left. Nothing is decided here:
`rules.py` has the thresholds, and how the papers' numbers differ from the script's.

The numbers are those of datatrove 0.10.1, which made FineWeb; where its way of counting is not its source's, the
docstring says so. A ratio of nothing to nothing is NaN: no rule drops a page for it. The same numbers at the speed of
a crawl come from `compiled.py`; this module is what it is tested against.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import astuple, dataclass, fields, replace
from math import nan

import numpy as np

from primer.corpus.text.characters import PUNCTUATION, TERMINAL
from primer.corpus.text.words import is_punctuation, sentence_final

Split = Callable[[str], Sequence[str]]
"""The words of a chunk: `words.split_chunk`. A chunk and its words are not empty and have no white space in them."""

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
FINAL = (".", "?", "!", '"', "'")
CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
SHORT_LINE = 30


@dataclass(frozen=True)
class Repetition:
    """How much of a page is said twice (Gopher). `characters` is the text's length, and what all but two divide by."""

    characters: int
    dup_para_frac: float
    dup_para_char_frac: float
    dup_line_frac: float
    dup_line_char_frac: float
    top_2_gram: float
    top_3_gram: float
    top_4_gram: float
    duplicated_5_n_grams: float
    duplicated_6_n_grams: float
    duplicated_7_n_grams: float
    duplicated_8_n_grams: float
    duplicated_9_n_grams: float
    duplicated_10_n_grams: float


@dataclass(frozen=True)
class Quality:
    """Whether a page reads like language (Gopher). `n_words` are those that are not symbols alone."""

    n_words: int
    mean_word_length: float
    hash_ratio: float
    ellipsis_ratio: float
    bullet_lines: float
    ellipsis_lines: float
    alpha_words: float
    stop_words: int


@dataclass(frozen=True)
class LineRules:
    """What C4 asks of a line. FineWeb's script leaves out C4's most costly rule, that lines end in punctuation."""

    terminal_punctuation: bool = False
    min_words: int = 3
    max_word_length: int = 1000
    drop: bool = True
    """Whether other lines go. False: what FineWeb's rules see is the whole text."""


FINEWEB_LINES = LineRules()


@dataclass(frozen=True)
class Lines:
    """What became of a page's lines, each counted under the first reason that held."""

    lines_total: int
    lines_too_long_word: int
    lines_no_terminal_punc: int
    lines_too_few_words: int
    lines_javascript: int
    lines_policy: int
    lines_kept: int


@dataclass(frozen=True)
class C4:
    """The lines that C4 keeps, and what makes it drop the whole page."""

    text: str
    lorem_ipsum_first: bool
    """Whether the phrase comes before any curly bracket: datatrove names what it meets first."""
    curly_bracket: bool
    lorem_ipsum: bool
    sentences: int
    lines: Lines


@dataclass(frozen=True)
class FineWeb:
    """The shape of the lines that C4 kept. `nonblank_lines` is what the two ratios of lines divide by."""

    nonblank_lines: int
    line_punct_ratio: float
    short_line_ratio: float
    char_dup_ratio: float
    list_ratio: float


C4_COLUMNS = ("lorem_ipsum_first", "curly_bracket", "lorem_ipsum", "sentences")
COLUMNS: tuple[str, ...] = (
    *(field.name for kind in (Repetition, Quality) for field in fields(kind)),
    *C4_COLUMNS,
    *(field.name for kind in (FineWeb, Lines) for field in fields(kind)),
)
"""All statistics in the order of `Measured.values`."""


@dataclass(frozen=True)
class Measured:
    """All that the filters need to know of a page."""

    values: np.ndarray
    """float64, in the order of `COLUMNS`."""
    text: str
    """What C4's rules leave of the page."""
    all_words: int
    """Words of the page, symbols included."""
    words_left: int
    """The same of `text`."""
    chunks: int
    """What stands between white space in the page: words to everybody but a tokenizer."""

    @property
    def columns(self) -> dict[str, float]:
        """The values by name, as `rules.decide` takes them."""
        return dict(zip(COLUMNS, self.values.tolist(), strict=True))


def ratio(part: int, whole: int) -> float:
    """part / whole, and NaN where there is no whole."""
    return part / whole if whole else nan


def duplicates(elements: Iterable[str]) -> tuple[int, int]:
    """(how many elements came before, their characters). Each first one is free, so twice the same is one duplicate."""
    seen: set[str] = set()
    count = characters = 0
    for element in elements:
        if element in seen:
            count += 1
            characters += len(element)
        seen.add(element)
    return count, characters


def top_n_gram(words: Sequence[str], n: int) -> int:
    """Characters of the most frequent n words, blanks between them included, times how often they come.

    Of several that are equally frequent, the first. Overlapping occurrences all count ("no no no" has two of "no no"),
    and in a text without any repetition it is its first n words, which is why very short pages fail this rule.
    """
    if len(words) < n:
        return 0
    counts = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    gram, count = counts.most_common(1)[0]
    return len(gram) * count


def repeated(words: Sequence[str], n: int) -> list[int]:
    """Where n words begin that came before, no two of them overlapping. The first occurrence is free.

    Compared is what the words are together, so that "-", "--" is "--", "-". After a repetition the next n words are
    skipped and not remembered: a text is read once, from left to right.
    """
    seen: set[str] = set()
    places = []
    i = 0
    while i <= len(words) - n:
        gram = "".join(words[i : i + n])
        if gram in seen:
            places.append(i)
            i += n
        else:
            seen.add(gram)
            i += 1
    return places


def duplicated_n_grams(words: Sequence[str], n: int) -> int:
    """Characters of the n-grams that came before, without blanks: Gopher divides by words, datatrove by the text."""
    return sum(len(word) for i in repeated(words, n) for word in words[i : i + n])


def paragraphs(text: str) -> list[str]:
    """What blank lines separate; a line with a blank in it separates nothing."""
    return re.split(r"\n{2,}", text.strip())


def lines(text: str) -> list[str]:
    """What newlines separate; before a first and after a last newline there is an empty line."""
    return re.split(r"\n+", text)


def repetition(text: str, words: Sequence[str]) -> Repetition:
    """Gopher's statistics of repetition. Table A1 asks for at most 0.3 of the paragraphs and lines, 0.2 of their
    characters, 0.20, 0.18 and 0.16 for the most frequent 2, 3 and 4 words, and 0.15 down to 0.10 for 5 to 10 words.
    """
    paras, rows = paragraphs(text), lines(text)
    (para_count, para_characters), (line_count, line_characters) = duplicates(paras), duplicates(rows)
    return Repetition(
        len(text),
        ratio(para_count, len(paras)),
        ratio(para_characters, len(text)),
        ratio(line_count, len(rows)),
        ratio(line_characters, len(text)),
        *(ratio(top_n_gram(words, n), len(text)) for n in (2, 3, 4)),
        *(ratio(duplicated_n_grams(words, n), len(text)) for n in range(5, 11)),
    )


def is_symbol(word: str) -> bool:
    """Whether there is nothing but punctuation in it."""
    return all(character in PUNCTUATION for character in word)


def has_letter(word: str) -> bool:
    return any(character.isalpha() for character in word)


def has_bullet(line: str) -> bool:
    return line.lstrip().startswith(("•", "-"))


def has_ellipsis(line: str) -> bool:
    return line.rstrip().endswith(("...", "…"))


def quality(text: str, words: Sequence[str]) -> Quality:
    """Gopher's statistics of quality (A.1.1): 50 to 100,000 words of 3 to 10 characters on average; per word at most
    0.1 hashes, and 0.1 ellipses; at most 0.9 of the lines with a bullet and 0.3 with an ellipsis at their end; at least
    0.8 of the words with a letter in them; two of eight stop words.

    Words without symbols count for the first two, all words for the others. Stop words are counted once each, and not
    with a capital. Four dots are one ellipsis, six are two. Gopher does not say what a bullet or a word is.
    """
    proper = [word for word in words if not is_symbol(word)]
    rows = text.splitlines()
    return Quality(
        len(proper),
        ratio(sum(map(len, proper)), len(proper)),
        ratio(text.count("#"), len(words)),
        ratio(text.count("...") + text.count("…"), len(words)),
        ratio(sum(map(has_bullet, rows)), len(rows)),
        ratio(sum(map(has_ellipsis, rows)), len(rows)),
        ratio(sum(map(has_letter, words)), len(words)),
        len(set(STOP_WORDS).intersection(words)),
    )


def count_sentences(line: str, split: Split) -> int:
    """Sentences as spaCy's sentencizer ends them: a final mark, more marks, and then something that is none.

    White space beyond one blank is such a something for spaCy, as is all white space at a line's start.
    """
    sentences, ended = 1, False
    for word in _with_white_space(line, split):
        if sentence_final(word):
            ended = True
        elif ended and not is_punctuation(word):
            sentences, ended = sentences + 1, False
    return sentences


def _with_white_space(line: str, split: Split) -> Iterable[str]:
    for run in re.finditer(r"\s+|\S+", line):
        if not run[0].isspace():
            yield from split(run[0])
        elif run.start() == 0 or run[0] != " ":
            yield run[0]


@dataclass(frozen=True)
class Line:
    """One line under C4's rules: without citations, what becomes of it, and whether it condemns the page."""

    text: str
    fate: str
    lorem_ipsum: bool = False
    curly_bracket: bool = False


def judge(raw: str, rules: LineRules = FINEWEB_LINES) -> Line:
    """C4's rules for a line, in datatrove's order: a rule is only asked about lines that passed those before it.

    Words are counted before citations ("[1]", "[citation needed]") go, punctuation is looked for thereafter.
    """
    words = raw.split()
    if any(len(word) > rules.max_word_length for word in words):
        return Line(raw, "too_long_word")
    line = CITATION.sub("", raw.strip())
    if rules.terminal_punctuation and (not line.endswith(FINAL) or line.endswith("...")):
        return Line(line, "no_terminal_punc")
    if len(words) < rules.min_words:
        return Line(line, "too_few_words")
    lower = line.lower()
    lorem_ipsum = "lorem ipsum" in lower
    if "javascript" in lower:
        return Line(line, "javascript", lorem_ipsum)
    policy = any(phrase in lower for phrase in POLICY)
    return Line(line, "policy" if policy else "kept", lorem_ipsum, "{" in line)


def c4(text: str, split: Split, rules: LineRules = FINEWEB_LINES) -> C4:
    """C4's statistics (section 2.2): a page needs 5 sentences on the lines that are kept, and no line of "lorem ipsum"
    or with a curly bracket. A kept line has 3 words, none longer than 1,000 characters, and mentions neither javascript
    nor cookies nor policies. (C4's own script, c4_utils.py, says 3 sentences and lines of 5 words.)

    datatrove stops at the line that condemns a page. We read on, as it does when it is told to ignore such lines, so
    that whoever drops the rule finds the other numbers right.
    """
    judged = [judge(raw, rules) for raw in text.splitlines()]
    kept = [line.text for line in judged if line.fate == "kept"]
    fates = Counter(line.fate for line in judged)
    worst = next((line for line in judged if line.lorem_ipsum or line.curly_bracket), None)
    return C4(
        "\n".join(kept).strip(),
        worst is not None and worst.lorem_ipsum,
        any(line.curly_bracket for line in judged),
        any(line.lorem_ipsum for line in judged),
        sum(count_sentences(line, split) for line in kept),
        Lines(len(judged), *(fates[field.name.removeprefix("lines_")] for field in fields(Lines)[1:])),
    )


def fineweb(text: str, words: Sized) -> FineWeb:
    """FineWeb's statistics (section 3.6) of what C4 left: at least 0.12 of the lines end in punctuation, at most 0.67
    have 30 characters or fewer, at most 0.01 of the characters are in lines that came before (0.1 in the paper), and at
    most 0.3 newlines a word (not in the paper).
    """
    rows = [line for line in text.split("\n") if line.strip()]
    return FineWeb(
        len(rows),
        ratio(sum(line.endswith(tuple(TERMINAL)) for line in rows), len(rows)),
        ratio(sum(len(line) <= SHORT_LINE for line in rows), len(rows)),
        ratio(duplicates(rows)[1], len(text.replace("\n", ""))),
        ratio(text.count("\n"), len(words)),
    )


def chunk_words(text: str, split: Split) -> list[str]:
    """The words of all chunks, one after the other."""
    return [word for chunk in text.split() for word in split(chunk)]


def measured(
    rep: Repetition, qual: Quality, page: C4, fine: FineWeb, all_words: int, words_left: int, chunks: int
) -> Measured:
    """The four filters' numbers in one row."""
    kinds = (*astuple(rep), *astuple(qual), *(getattr(page, name) for name in C4_COLUMNS))
    values = np.array((*kinds, *astuple(fine), *astuple(page.lines)), dtype=np.float64)
    return Measured(values, page.text, all_words, words_left, chunks)


def measure(text: str, split: Split, rules: LineRules = FINEWEB_LINES) -> Measured:
    """All statistics of a text: Gopher's of it whole, C4's of its lines, FineWeb's of the lines that are left."""
    words = chunk_words(text, split)
    page = c4(text, split, rules)
    if not rules.drop:
        page = replace(page, text=text)
    left = chunk_words(page.text, split)
    fine = fineweb(page.text, left)
    counts = len(words), len(left), len(text.split())
    return measured(repetition(text, words), quality(text, words), page, fine, *counts)
