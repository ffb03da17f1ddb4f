"""The tokenizer of GPT-2 and of most that followed: byte-pair encoding over bytes (the algorithm is in `pairs`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, Literal, SupportsIndex

import numpy as np

from primer.assets import log, seal
from primer.device import cores
from primer.errors import DataError, UsageError, missing_extra
from primer.tokens import bpe_fast
from primer.tokens.blocks import BLOCK, blocks
from primer.tokens.char import UnknownCharacterError
from primer.tokens.pairs import Pair, Readable, count_chunks, train_chunks
from primer.tokens.patterns import PATTERNS, PatternName, check_pattern, splitter
from primer.tokens.special import SpecialTokens
from primer.tokens.tokenizer import END_OF_TEXT, Ids, Special, check_ids, dtype_for, fingerprint_of
from primer.tokens.vocabulary import check_bytes, check_reachable, token_bytes

Implementation = Literal["auto", "readable", "fast"]
"""The engine: plain Python, the libraries of the extra [fast], or (auto) the libraries where they are installed."""

Job = tuple[int, int, int | None]
"""(start, end) of a stretch of a text, and its id if it is a special token."""

LARGE, MANY = 1 << 20, 1 << 10
"""Characters of a text and merges to learn, beyond which it is worth saying that the slow way is taken."""

_STRAYS = re.compile("([\udc80-\udcff]+)")  # what `surrogateescape` makes of bytes that are no UTF-8


class BPETokenizer:
    """Byte-level BPE: the ids are those of the 256 bytes, then one a merge, then those of the special tokens.

    merges: pairs of ids in the order in which they were learned. order: the byte of each of the first 256 ids.
    special_tokens: name → id, the ids that follow the merges. Raises DataError for what is no vocabulary.

    >>> BPETokenizer([(108, 111), (256, 119)], pattern="gpt2").encode("slow").tolist()
    [115, 257]
    """

    name = "bpe"

    def __init__(
        self,
        merges: Iterable[Pair],
        *,
        pattern: PatternName = "gpt4",
        order: bytes = bytes(range(256)),
        special_tokens: Mapping[str, int] | None = None,
        implementation: Implementation = "auto",
    ) -> None:
        if implementation not in ("auto", "readable", "fast"):
            raise UsageError(f"unknown implementation {implementation!r}", hint="auto, readable or fast")
        check_bytes(order)
        self.pattern = check_pattern(pattern)
        self.order = order
        self.merges = tuple(merges)
        self.tokens = tuple(token_bytes(order, self.merges))
        """The bytes of every token that is not special."""
        self.ranks = {pair: new for new, pair in enumerate(self.merges, start=256)}
        check_reachable(self.merges, self.ranks)
        self._special = SpecialTokens(special_tokens or {}, first=len(self.tokens))
        self.special_tokens = self._special.ids
        self.vocab_size = len(self.tokens) + len(self.special_tokens)
        self.dtype = dtype_for(self.vocab_size)
        self.implementation = implementation

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        pattern: PatternName = "gpt4",
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        implementation: Implementation = "auto",
        at_most: bool = False,
    ) -> BPETokenizer:
        """The vocabulary of `texts`, each of which is split on its own (for the pieces of one: `blocks.rejoined`).

        Raises UsageError for a size that holds no bytes, DataError where the texts have too few pairs for it; with
        `at_most` it is then as large as they allow.
        """
        if len(set(special_tokens)) < len(special_tokens):
            raise UsageError("a special token is given twice", hint="leave one of them out")
        least = 256 + len(special_tokens)
        if vocab_size < least:
            raise UsageError(
                f"a vocabulary of {vocab_size} is too small: 256 bytes and {len(special_tokens)} special tokens",
                hint=f"--vocab-size={least} or more",
            )
        merges = _merges(_pieces(texts), vocab_size - least, check_pattern(pattern), implementation)
        if len(merges) < vocab_size - least and not at_most:
            raise DataError(
                f"this text has pairs for a vocabulary of {least + len(merges)}, and {vocab_size} was asked for",
                hint=f"--vocab-size={least + len(merges)}, or a longer text",
            )
        special = {name: 256 + len(merges) + place for place, name in enumerate(special_tokens)}
        return cls(merges, pattern=pattern, special_tokens=special, implementation=implementation)

    @cached_property
    def _readable(self) -> Readable:
        return Readable(self.order, self.ranks, lambda text: splitter(self.pattern)(text))

    @cached_property
    def _fast(self) -> Callable[..., Ids] | None:
        if self.implementation == "readable":
            return None
        try:
            end_of_text = self.special_tokens.get(END_OF_TEXT, len(self.tokens))
            return bpe_fast.encoder(self.tokens, self.pattern, end_of_text)
        except ImportError as error:
            if self.implementation == "fast":
                raise missing_extra("tiktoken", "fast") from error
            return None

    def _run(self, text: str, job: Job) -> Ids:
        start, end, token = job
        if token is not None:
            return np.array([token], dtype=self.dtype)
        block = text[start:end]
        try:
            return np.asarray((self._fast or self._readable)(block)).astype(self.dtype)
        except UnicodeEncodeError as error:
            raise _unknown(block, start) from error

    @cached_property
    def byte_lengths(self) -> Ids:
        return np.array([*map(len, self.tokens), *(0 for _ in self.special_tokens)], dtype=np.int64)

    def encode(self, text: str, special: Special = "refuse") -> Ids:
        jobs = self._jobs(text, special)
        self.mention_slowness(len(text))
        return self._joined([self._run(text, job) for job in jobs])

    def mention_slowness(self, characters: int) -> None:
        """Say once, where so much is to be encoded that it matters, that a faster engine could be had."""
        if not self._fast and characters > LARGE and self.implementation == "auto":
            _say_once(
                "tiktoken is not installed (extra [fast]): encoding in plain Python, several times slower"
            )

    def encode_batch(self, texts: Sequence[str], threads: int = 0, special: Special = "refuse") -> list[Ids]:
        """`encode` of each text, on all cores (or on `threads`); a single long text keeps them all busy, too."""
        if not self._fast:
            return [self.encode(text, special) for text in texts]
        jobs = [(number, job) for number, text in enumerate(texts) for job in self._jobs(text, special)]
        work = list(_groups(jobs))
        with ThreadPoolExecutor(threads or cores()) as pool:
            done = pool.map(lambda group: [self._run(texts[number], job) for number, job in group], work)
            parts: list[list[Ids]] = [[] for _ in texts]
            for group, arrays in zip(work, done, strict=True):
                for (number, _), ids in zip(group, arrays, strict=True):
                    parts[number].append(ids)
        return [self._joined(each) for each in parts]

    def encode_documents(self, texts: Sequence[str]) -> Ids:
        """The end-of-text token and a text's ids, text after text. What a text spells is ordinary characters.

        One call of the engine where that is safe: between calls a thread waits for whoever has the interpreter.
        """
        end_of_text = self.special_tokens[END_OF_TEXT]
        if self._fast and all(len(text) <= BLOCK and END_OF_TEXT not in text for text in texts):
            together = "".join(END_OF_TEXT + text for text in texts)
            with suppress(UnicodeEncodeError):  # below it is said where
                return np.asarray(self._fast(together, allowed_special={END_OF_TEXT})).astype(self.dtype)
        begin = np.array([end_of_text], dtype=self.dtype)
        return self._joined([part for text in texts for part in (begin, self.encode(text, special="text"))])

    def _jobs(self, text: str, special: Special) -> list[Job]:
        """Blocks of text and special tokens, in their order."""
        jobs: list[Job] = []
        for start, end, token in self._special.stretches(text, special):
            if token is None:
                jobs += ((first, last, None) for first, last in blocks(text, start, end))
            else:
                jobs.append((start, end, token))
        return jobs

    def _joined(self, parts: Sequence[Ids]) -> Ids:
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype=self.dtype), *parts])

    def encode_bytes(self, data: bytes) -> Ids:
        """The ids of any bytes, in which nothing is special.

        What is UTF-8 is encoded as text. Between texts, bytes that are none are chunks of 1,024 at most.
        """
        parts: list[Ids] = []
        for number, stretch in enumerate(_STRAYS.split(data.decode(errors="surrogateescape"))):
            if number % 2:  # what separates two texts
                stray = stretch.encode(errors="surrogateescape")
                chunks = (stray[start : start + 1024] for start in range(0, len(stray), 1024))
                parts += (np.array(self._readable.chunk(chunk), dtype=self.dtype) for chunk in chunks)
            else:
                parts.append(self.encode(stretch, special="text"))
        return self._joined(parts)

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Bytes that are no UTF-8 (a model may write such) become U+FFFD; a special token is written as its name."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[SupportsIndex]) -> bytes:
        """What `encode_bytes` was given."""
        return b"".join([self._written[token] for token in check_ids(ids, self.vocab_size).tolist()])

    @cached_property
    def _written(self) -> list[bytes]:
        return [*self.tokens, *(name.encode() for name in self.special_tokens)]

    def token_bytes(self, token: SupportsIndex) -> bytes:
        """The bytes of one token; none for a special token, which stands for no text."""
        (number,) = check_ids([token], self.vocab_size).tolist()
        return self.tokens[number] if number < len(self.tokens) else b""

    def to_json(self) -> str:
        return seal(
            {
                "kind": self.name,
                "version": 1,
                "pattern": self.pattern,
                "bytes": self.order.hex(),
                "merges": self.merges,
                "special_tokens": dict(self.special_tokens),
            }
        )

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any], where: str) -> BPETokenizer:
        """What `to_json` wrote, without its seal. Raises DataError that names the file `where`."""
        pattern, order, merges, special = (
            fields.get(key) for key in ("pattern", "bytes", "merges", "special_tokens")
        )
        try:
            if not (isinstance(pattern, str) and pattern in PATTERNS):
                raise DataError(f"no pattern {pattern!r} is known", hint="upgrade gpt-primer")
            if not (isinstance(order, str) and re.fullmatch("[0-9a-f]{512}", order)):
                raise DataError("the order of the bytes must be 512 hexadecimal digits")
            if not (isinstance(merges, list) and all(map(_is_pair, merges))):
                raise DataError("the merges must be pairs of ids")
            if not (isinstance(special, dict) and all(type(number) is int for number in special.values())):
                raise DataError("the special tokens must be names with ids")
            pairs = ((left, right) for left, right in merges)
            return cls(pairs, pattern=pattern, order=bytes.fromhex(order), special_tokens=special)
        except DataError as error:
            raise DataError(error.cause, where, error.hint or "another file") from error

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.to_json())


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and type(value[0]) is type(value[1]) is int


def _unknown(text: str, offset: int) -> UnknownCharacterError:
    """The error for half a surrogate pair in `text`, which begins `offset` characters after the start."""
    place = next(place for place, character in enumerate(text) if "\ud800" <= character <= "\udfff")
    return UnknownCharacterError(text[place], offset + place)


def _groups(jobs: Sequence[tuple[int, Job]]) -> Iterator[Sequence[tuple[int, Job]]]:
    """Neighbouring jobs, so many at a time that starting them costs little."""
    first = size = 0
    for place, (_, (start, end, _)) in enumerate(jobs):
        size += end - start
        if size >= BLOCK // 2:
            yield jobs[first : place + 1]
            first, size = place + 1, 0
    if first < len(jobs):
        yield jobs[first:]


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    """The blocks of all texts, none of which holds half a surrogate pair."""
    for text in texts:
        for start, end in blocks(text, 0, len(text)):
            block = text[start:end]
            try:
                block.encode()
            except UnicodeEncodeError as error:
                raise _unknown(block, start) from error
            yield block


def _merges(
    texts: Iterable[str], count: int, pattern: PatternName, implementation: Implementation
) -> list[Pair]:
    if implementation != "readable":
        try:
            return bpe_fast.learn(texts, count, pattern)
        except ImportError as error:
            if implementation == "fast":
                raise missing_extra("rustbpe", "fast") from error
            if count > MANY:
                _say_once(
                    "rustbpe is not installed (extra [fast]): learning in plain Python, ten times slower"
                )
    return train_chunks(count_chunks(texts, splitter(pattern)), count)


@cache
def _say_once(message: str) -> None:
    log.warning(message)
