"""Writing as one sees it: text in, text out, piece by piece.

Two things can go wrong between ids and text. A token may be half a character (a byte of a UTF-8
sequence), so bytes wait until their character is whole. And the beginning of a stop string looks like any
other text, so what could still become one waits until it cannot.
"""

import codecs
from collections.abc import Callable, Collection, Iterator

import numpy as np
import torch

from primer.errors import UsageError
from primer.generation.decode import generate
from primer.generation.sampling import Sampling
from primer.models.gpt import GPT
from primer.tokens.beginning import beginning
from primer.tokens.tokenizer import END_OF_TEXT, Ids, Tokenizer


def stream(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int,
    sampling: Sampling | None = None,
    seed: int | None = None,
    stop: Collection[str] = (),
    stop_at_end: bool = True,
    use_cache: bool = True,
) -> Iterator[str]:
    """Pieces of text that continue `prompt`, as soon as they are certain. See `streams`."""
    for (piece,) in streams(
        model,
        tokenizer,
        prompt,
        max_tokens=max_tokens,
        sampling=sampling,
        seed=seed,
        stop=stop,
        stop_at_end=stop_at_end,
        use_cache=use_cache,
    ):
        if piece:
            yield piece


def streams(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str | Ids,
    *,
    samples: int = 1,
    max_tokens: int,
    sampling: Sampling | None = None,
    seed: int | None = None,
    stop: Collection[str] = (),
    stop_at_end: bool = True,
    use_cache: bool = True,
) -> Iterator[list[str]]:
    """Continue `prompt` (text or ids) `samples` times in one batch; after each token one piece (often empty) a sample.

    A sample ends before the first of the `stop` strings, which is not written, or after `max_tokens` tokens, and with
    `stop_at_end` where the model ends its text: at the end-of-text token, if the tokenizer has one. No special token
    is ever written. An empty prompt is then the beginning of a text. The same `seed` gives the same text on the same
    machine; None draws anew. Raises UsageError for another empty prompt, DataError for a character that the tokenizer
    does not know, or a special token spelt out.
    """
    if samples < 1 or max_tokens < 0:
        raise UsageError(f"at least one sample and no negative number of tokens, got {samples}, {max_tokens}")
    device = next(model.parameters()).device
    own = prompt_ids(tokenizer, prompt) if isinstance(prompt, str) else prompt
    ids = torch.from_numpy(own.astype(np.int64)).to(device)
    end = tokenizer.special_tokens.get(END_OF_TEXT) if stop_at_end else None
    writers = [Writer(written(tokenizer), stop) for _ in range(samples)]
    for chosen in generate(
        model,
        ids.expand(samples, -1),
        max_tokens=max_tokens,
        sampling=sampling,
        generator=None if seed is None else torch.Generator(device).manual_seed(seed),
        vocabulary=tokenizer.vocab_size,
        use_cache=use_cache,
    ):
        yield [
            writer.finish() if token == end else writer.push(token)
            for writer, token in zip(writers, chosen.tolist(), strict=True)
        ]
        if all(writer.stopped for writer in writers):
            return
    yield [writer.finish() for writer in writers]


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> Ids:
    """The ids of a person's prompt; of an empty one the end-of-text token, where the tokenizer has it."""
    ids = tokenizer.encode(prompt)
    if len(ids) or END_OF_TEXT not in tokenizer.special_tokens:
        return ids
    return beginning(tokenizer)


def written(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """The bytes of a token as a reader sees them: none of a special one."""
    special = frozenset(tokenizer.special_tokens.values())
    return lambda token: b"" if token in special else tokenizer.token_bytes(token)


class Writer:
    """Turns tokens into text that never has to be taken back.

    `push` returns what became certain with this token, `finish` what was still waiting. A sequence of
    bytes that is no UTF-8 becomes U+FFFD. Of several stop strings the one that is complete first counts,
    of several that are complete at once the longest; from its beginning on, nothing is written.
    """

    def __init__(self, token_bytes: Callable[[int], bytes], stop: Collection[str] = ()) -> None:
        if "" in stop:
            raise UsageError("a stop string must not be empty")
        self.token_bytes = token_bytes
        self.stop = frozenset(stop)
        self.lengths = sorted({len(string) for string in self.stop}, reverse=True)
        self.beginnings = {string[:n] for string in self.stop for n in range(1, len(string))}
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.waiting = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Take one token. Returns "" while nothing is certain, and after the end."""
        return "" if self.stopped else self._read(self.decoder.decode(self.token_bytes(token)))

    def finish(self) -> str:
        """No token comes any more."""
        if self.stopped:
            return ""
        certain = self._read(self.decoder.decode(b"", final=True))
        if not self.stopped:
            certain, self.waiting = certain + self.waiting, ""
            self.stopped = True
        return certain

    def _read(self, text: str) -> str:
        for character in text:  # one at a time, so that it does not matter how text was cut into tokens
            self.waiting += character
            for length in self.lengths:
                if len(self.waiting) >= length and self.waiting[-length:] in self.stop:
                    self.stopped = True
                    return self._release(len(self.waiting) - length)
        return self._release(len(self.waiting) - self._held())

    def _held(self) -> int:
        """How many of the last waiting characters could still become a stop string."""
        longest = max(self.lengths, default=1) - 1
        possible = range(min(longest, len(self.waiting)), 0, -1)
        return next((n for n in possible if self.waiting[-n:] in self.beginnings), 0)

    def _release(self, count: int) -> str:
        certain, self.waiting = self.waiting[:count], self.waiting[count:]
        return certain
