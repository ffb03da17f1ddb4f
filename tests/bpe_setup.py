"""What the tests of byte-pair encoding share: texts that tokenizers stumble over, a small vocabulary, its judge.

`pythonpath` in pyproject.toml makes this importable.
"""

import random
import unicodedata
from functools import cache

import tiktoken
from hypothesis import strategies as st

from primer.tokens import BPETokenizer
from primer.tokens.patterns import PATTERNS

PIECES = [
    *("'s", "'S", "'t", "'re", "'RE", "'ve", "'m", "'ll", "'d", "'ſ", "'x", "'", "''", "’s"),
    *("the", " the", "The", "ing", " hello", "WORLD", "naïve", "Straße", "ǅ", "ﬁ", "ª", "ʰ"),
    *(" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", "\n  x", "\x0b", "\x0c"),
    *("\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u3000"),
    *("\u200b", "\u200d", "\u2060", "\ufeff", "\u180e", "\xad", "\x00", "\x7f", "\ufffd", "\ufffe"),
    *("0", "12", "1234567", " 42", "3.14", "１２", "½", "Ⅷ", "٣٤", "㊿", "〇", "一二三", "四"),
    *("...", "!?", "==", "->", "//", "(x)", "<|", "|>", "_", "$", "\\", "#", " #!"),
    *("日本語", "中文。", "한국어", "ไทย", "हिन्दी", "עברית", "العربية", "é", "e\u0301", "\u0301", "\u20dd"),
    *("😀", "👩‍👩‍👧", "🏳️‍🌈", "👍🏽", "🇩🇪", "☃", "€", "𝔘", "𐍈"),
]  # fmt: skip
"""Contractions, white space of every kind, controls, digits, marks, scripts, emoji."""


def texts(*, newest: bool = True) -> st.SearchStrategy[str]:
    """Texts of strange pieces and of any characters; without `newest` none that this Python's Unicode lacks."""
    anything = st.characters(exclude_categories=["Cs"] if newest else ["Cs", "Cn"])
    short = st.lists(st.one_of(st.sampled_from(PIECES), anything), max_size=40).map("".join)
    return st.one_of(short, st.integers(0, 1 << 32).map(lambda seed: shuffled(seed, newest)))


def shuffled(seed: int, newest: bool = False) -> str:
    """Dozens of pieces, with some characters of any kind between them: hypothesis alone prefers short texts."""
    chance = random.Random(seed)
    parts = chance.choices(PIECES, k=chance.randrange(100))
    for _ in range(len(parts) // 4):
        character = chr(chance.choice([chance.randrange(0x3000), chance.randrange(0x110000)]))
        if unicodedata.category(character) not in (("Cs",) if newest else ("Cs", "Cn")):
            parts.insert(chance.randrange(len(parts)), character)
    return "".join(parts)


PROSE = (
    " ".join(PIECES) + "low lower lowest, newer newest; wide wider widest. the cat's hat, the cats' hats " * 6
)
"""What the small vocabulary is learned from."""


@cache
def small(pattern="gpt4", way="fast"):
    """A vocabulary of 520; both ways of encoding have the same merges."""
    learned = BPETokenizer.train([PROSE], 520, pattern=pattern, implementation="fast")
    return BPETokenizer(
        learned.merges, pattern=pattern, special_tokens=learned.special_tokens, implementation=way
    )


def judge(tokenizer):
    """tiktoken with the same vocabulary and the pattern as it was published."""
    return tiktoken.Encoding(
        "judge",
        pat_str=PATTERNS[tokenizer.pattern],
        mergeable_ranks={token: place for place, token in enumerate(tokenizer.tokens)},
        special_tokens=dict(tokenizer.special_tokens),
    )


@cache
def small_judge(pattern="gpt4"):
    """The judge of `small`."""
    return judge(small(pattern))


def bytes_of(merges):
    """The bytes of every token, computed on its own."""
    known = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        known.append(known[left] + known[right])
    return known
