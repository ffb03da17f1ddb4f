"""How likely a model finds a continuation after a context: log p(continuation | context), many at once.

    log p = Σ_t log p(x_t | x_<t),  t over the continuation's tokens

Each continuation is scored as if it stood alone: rows are padded on the right, where a causal model does not look, so
that only rounding depends on what else is in the batch. The endings of a question do not share their context: kept keys
and values would save about half of the work, but a row behind a cache takes another kernel and other rounding, and a
score would depend on how it was computed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from primer.errors import DataError
from primer.evals.perplexity import evaluating
from primer.models.gpt import GPT
from primer.models.ids import check_ids
from primer.tokens.beginning import beginning
from primer.tokens.tokenizer import Ids, Tokenizer

Progress = Callable[[int, int], None]
"""Called with how many are done, and how many there are."""

LOGITS = {"cpu": 1 << 25, "cuda": 1 << 28}
"""Logits that a batch may have, by kind of device: 128 MB of them in float32, or 1 GB."""


def at_once(vocab_size: int, device: torch.device) -> int:
    """Tokens of a batch."""
    return max(1, min(8192, LOGITS.get(device.type, LOGITS["cpu"]) // vocab_size))


@dataclass(frozen=True, slots=True)
class Pair:
    """What a model is shown, and what it is asked about behind it. Neither is empty."""

    context: Ids
    continuation: Ids


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Of one pair."""

    log_p: float
    """Σ log p of the continuation's tokens, in nats."""
    tokens: int
    """How many those are."""
    greedy: bool
    """Whether the likeliest token at every place is the continuation's."""
    cut: int
    """Tokens at the left that the first of them could not see: the model's context is shorter."""


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> Pair:
    """Ids of a context and of its continuation, as they are when the two are one text.

    White space at the context's end goes to the continuation, and both are encoded whole (lm-evaluation-harness'
    `_encode_pair`): a byte-level BPE has tokens for " the", and none of them ends where a word begins. Where a token
    still spans the border, the continuation begins with it, so that all that it says is scored; the harness counts
    tokens and loses that one. Before an empty context stands the beginning of a text. Special tokens that a text
    spells are text. Raises DataError where nothing is left of the continuation.
    """
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    before = tokenizer.encode(stripped, special="text")
    whole = tokenizer.encode(stripped + continuation, special="text")
    shared = min(len(before), len(whole))
    different = np.flatnonzero(before[:shared] != whole[:shared])
    split = int(different[0]) if len(different) else shared
    if split == len(whole):
        raise DataError(f"the tokenizer knows nothing of {continuation!r}", hint="--unknown=error says what")
    return Pair(whole[:split] if split else beginning(tokenizer), whole[split:])


def log_likelihoods(
    model: GPT,
    pairs: Sequence[Pair],
    *,
    tokens_at_once: int | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Likelihood]:
    """Score every pair, in the precision that autocast says, log-probabilities and sums in float32 or wider.

    What does not fit into the model's context is cut from the left; a continuation that alone does not fit is scored in
    pieces of half a context, each behind the other half. Probabilities are over the model's whole vocabulary, as
    trained, padding included. tokens_at_once: of a batch; by default 8192, or what `LOGITS` allows. `progress` counts
    pairs, and pieces. Raises UsageError for an id outside the vocabulary, DataError for log-probabilities that are no
    numbers.
    """
    limit = tokens_at_once or at_once(model.config.vocab_size, model.token_embedding.weight.device)
    context = model.config.context_length
    pieces: list[Piece] = []
    for number, pair in enumerate(pairs):
        ids = np.concatenate([pair.context, pair.continuation]).astype(np.int64)
        check_ids(torch.from_numpy(ids), model.config.vocab_size, f"pair {number}")
        pieces += [(number, *piece) for piece in _pieces(ids, len(pair.continuation), context)]
    pieces.sort(key=lambda piece: -len(piece[1]))  # stable: equals stay in order
    sums = np.zeros(len(pairs))
    greedy = np.ones(len(pairs), dtype=bool)
    done = 0
    with evaluating(model):
        for batch in _batches(pieces, limit):
            for (number, _, _), (log_p, best) in zip(batch, _score(model, batch), strict=True):
                sums[number] += log_p
                greedy[number] &= best
            done += len(batch)
            progress(done, len(pieces))
    if not np.isfinite(sums).all():
        raise DataError("the model's log-probabilities are no numbers", hint="an earlier checkpoint")
    return [
        Likelihood(float(sums[number]), len(pair.continuation), bool(greedy[number]), _cut(pair, context))
        for number, pair in enumerate(pairs)
    ]


Piece = tuple[int, Ids, int]
"""The pair's number, a window's ids, and how many of the last are predicted from those before them."""


def _pieces(ids: Ids, scored: int, context: int) -> Iterator[tuple[Ids, int]]:
    """Windows of at most context + 1 ids in which each of the last `scored` is predicted once."""
    step = scored if scored <= context else max(1, context // 2)
    for start in range(len(ids) - scored, len(ids), step):
        stop = min(start + step, len(ids))
        yield ids[max(0, stop - 1 - context) : stop], stop - start


def _cut(pair: Pair, context: int) -> int:
    return max(0, len(pair.context) + len(pair.continuation) - 1 - context)


def _batches(pieces: Sequence[Piece], limit: int) -> Iterator[Sequence[Piece]]:
    """Neighbours of a list that is sorted by length, the longest first, so that little is padded."""
    start = 0
    while start < len(pieces):
        rows = max(1, limit // (len(pieces[start][1]) - 1))
        yield pieces[start : start + rows]
        start += rows


def _score(model: GPT, batch: Sequence[Piece]) -> Iterator[tuple[float, bool]]:
    """(Σ log p, greedy) of each piece."""
    device = model.token_embedding.weight.device
    longest = len(batch[0][1]) - 1
    inputs = np.zeros((len(batch), longest), dtype=np.int64)  # padded on the right: nothing looks there
    rows, columns, targets = [], [], []
    for row, (_, ids, count) in enumerate(batch):
        inputs[row, : len(ids) - 1] = ids[:-1]
        rows.append(np.full(count, row))
        columns.append(np.arange(len(ids) - 1 - count, len(ids) - 1))
        targets.append(ids[-count:])
    logits = model(torch.from_numpy(inputs).to(device))  # (B, T, V)
    places = [torch.from_numpy(np.concatenate(each)).to(device) for each in (rows, columns)]
    log_p, best = _at(logits[places[0], places[1]], torch.from_numpy(np.concatenate(targets)).to(device))
    counts = [count for _, _, count in batch]
    for part, hits in zip(log_p.split(counts), best.split(counts), strict=True):
        yield float(part.sum()), bool(hits.all())


def _at(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(log p of each target in float64 out of float32, whether it is the likeliest), on the CPU."""
    log_p = -F.cross_entropy(logits.float(), targets, reduction="none")
    return log_p.cpu().double(), (logits.argmax(dim=-1) == targets).cpu()
