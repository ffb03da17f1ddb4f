"""A score of translations against brute force: pair after pair, token after token, with nothing but a softmax."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from primer.data.pairs import PairBatch, Pairs, Sentences, batch_of
from primer.errors import UsageError
from primer.evals.pair_perplexity import score_pairs
from primer.models.config import TransformerConfig
from primer.models.transformer import Transformer
from primer.shapes import PADDING

END, WORDS = 0, 23


def model(**options: Any) -> Transformer:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d_model": 8, "n_heads": 2, "d_ff": 12, "n_layers": 1, "context_length": 12}
    return Transformer(TransformerConfig(vocab_size=9, **({"dropout": 0.5} | sizes | options)))


def sentences(lengths: list[int], rng: np.random.Generator) -> Sentences:
    """Of so many words, each with its end."""
    ids = [np.append(rng.integers(1, 9, length), END) for length in lengths]
    return Sentences(np.concatenate(ids).astype(np.uint16), np.cumsum([len(each) for each in ids]))


@pytest.fixture
def pairs() -> Pairs:
    rng = np.random.default_rng(0)
    return Pairs(sentences([3, 0, 7, 5, 2, 10], rng), sentences([4, 1, 2, 9, 0, 6], rng))


@torch.no_grad()
def nats_of(judged: Transformer, pairs: Pairs) -> list[float]:
    """−log p of every token of every target, its end included."""
    found = []
    for n in range(len(pairs)):
        source = torch.from_numpy(pairs.source[n].astype(np.int64))[None]
        target = pairs.target[n].tolist()
        for place, token in enumerate(target):
            logits = judged(source, torch.tensor([[END, *target[:place]]]))[0, -1].double()
            p = math.exp(logits[token]) / sum(math.exp(logit) for logit in logits)
            found.append(-math.log(p))
    return found


def batches_of(pairs: Pairs, *groups: tuple[int, ...]) -> list[PairBatch]:
    return [batch_of(pairs, group) for group in groups or [tuple(range(len(pairs)))]]


@pytest.mark.parametrize("groups", [[(0,), (1,), (2,), (3,), (4,), (5,)], [(0, 1, 2), (5, 3, 4)], []])
def test_the_score_is_that_of_every_token_once(pairs: Pairs, groups: list[tuple[int, ...]]) -> None:
    judged = model().train()
    told: list[int] = []
    batches = batches_of(pairs, *groups)
    found = score_pairs(judged, batches, WORDS, progress=told.append)
    assert judged.training
    nats = nats_of(judged.eval(), pairs)
    assert (found.tokens, found.words, found.sentences) == (22 + 6, WORDS, 6)
    assert found.loss == pytest.approx(sum(nats) / 28, rel=1e-6)
    assert found.perplexity == pytest.approx(math.exp(sum(nats) / 28), rel=1e-5)
    assert found.word_perplexity == pytest.approx(math.exp(sum(nats) / (WORDS + 6)), rel=1e-5)
    assert len(told) == len(batches)
    assert told[-1] == 28
    padded = [(side == PADDING).any() for batch in batches for side in (batch.source, batch.targets)]
    assert all(padded) or len(groups) == 6


def test_in_chunks_it_is_the_same(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    from primer.kernels.cross_entropy import CHUNKS

    judged = model()
    whole = score_pairs(judged, batches_of(pairs), WORDS)
    monkeypatch.setitem(CHUNKS, "cpu", 20)
    chunked = score_pairs(judged, batches_of(pairs), WORDS)
    assert chunked.loss == pytest.approx(whole.loss, rel=1e-6)


def test_processes_add_up_to_one(pairs: Pairs) -> None:
    judged = model()
    batches = batches_of(pairs, (0, 1, 2), (4, 3), (5,))
    whole = score_pairs(judged, batches, WORDS)
    sums: list[torch.Tensor] = []

    def remember(part: torch.Tensor) -> torch.Tensor:
        sums.append(part.clone())
        return torch.stack(sums).sum(0)

    score_pairs(judged, batches[0::2], WORDS, total=remember)
    together = score_pairs(judged, batches[1::2], WORDS, total=remember)
    assert (together.tokens, together.sentences) == (whole.tokens, whole.sentences)
    assert together.loss == pytest.approx(whole.loss, rel=1e-12)
    assert together.word_perplexity == pytest.approx(whole.word_perplexity, rel=1e-12)


def test_a_hopeless_model_has_a_finite_perplexity(pairs: Pairs) -> None:
    judged = model()
    with torch.no_grad():
        judged.embedding.tokens.weight.mul_(1e5)
    found = score_pairs(judged, batches_of(pairs), WORDS)
    assert found.loss > 700
    assert math.isfinite(found.perplexity)
    assert math.isfinite(found.word_perplexity)


@pytest.mark.parametrize("side", ["source", "inputs", "targets"])
def test_ids_beyond_the_vocabulary_are_named(pairs: Pairs, side: str) -> None:
    (batch,) = batches_of(pairs, (2, 3))
    changed = getattr(batch, side).clone()
    changed[0, 1] = 9
    with pytest.raises(UsageError, match=f"the {side} has id 9 at position 1"):
        score_pairs(model(), [replace(batch, **{side: changed})], WORDS)
