"""Many sentences are translated as each of them alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from primer.errors import UsageError
from primer.generation import sentences as module
from primer.generation.beam import beam_search
from primer.generation.config import BeamConfig
from primer.generation.sentences import batches, beam_search_all
from primer.models.config import TransformerConfig
from primer.models.transformer import Transformer

END = 2
HOW: dict[str, Any] = {"end": END, "config": BeamConfig(beam=3, extra_length=4), "wanted": 2}


def small() -> Transformer:
    torch.manual_seed(1)
    config = TransformerConfig(
        vocab_size=9, context_length=14, d_model=8, n_heads=2, d_ff=12, n_layers=1, dropout=0.0
    )
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.double()


def some(count: int) -> list[np.ndarray]:
    """Sentences of 1 to 10 tokens, as a shard would hold them."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(3, 9, rng.integers(0, 10)) for _ in range(count)]
    return [np.append(ids, END).astype(np.uint16) for ids in drawn]


@pytest.mark.parametrize("batch_tokens", [1, 25, 4096])
def test_each_is_translated_as_if_it_were_alone_and_stands_where_it_stood(batch_tokens: int) -> None:
    model, many = small(), some(17)
    told: list[tuple[int, int]] = []
    found = beam_search_all(
        model, many, batch_tokens=batch_tokens, progress=lambda *numbers: told.append(numbers), **HOW
    )
    assert len({tuple(h.ids for h in hypotheses) for hypotheses in found}) > 5, "they must differ"
    for ids, hypotheses in zip(many, found, strict=True):
        (alone,) = beam_search(model, torch.from_numpy(ids.astype(np.int64))[None], **HOW)
        assert [h.ids for h in hypotheses] == [h.ids for h in alone]
        assert [h.score for h in hypotheses] == pytest.approx([h.score for h in alone], rel=1e-9)
    assert told == sorted(told)
    assert told[-1] == (17, 17)
    assert (len(told) == 17) == (batch_tokens == 1)


def test_without_a_cache_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    expected = beam_search_all(model, some(5), **HOW)
    monkeypatch.setattr(model, "step", None)  # nothing is kept, so nothing goes on from it
    found = beam_search_all(model, some(5), use_cache=False, **HOW)
    assert [[h.ids for h in each] for each in found] == [[h.ids for h in each] for each in expected]


def test_a_small_memory_makes_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sentences of three hypotheses and nine tokens are 54 candidates."""
    whole = beam_search_all(small(), some(7), **HOW)
    monkeypatch.setitem(module.CANDIDATES, "cpu", 54)
    told: list[int] = []
    again = beam_search_all(small(), some(7), progress=lambda done, total: told.append(done), **HOW)
    assert told == [2, 4, 6, 7]
    assert [[h.ids for h in found] for found in again] == [[h.ids for h in found] for found in whole]


def test_nothing_is_translated_into_nothing() -> None:
    assert beam_search_all(small(), [], **HOW) == []


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([], "sentence 2 has no tokens"),
        ([3] * 14 + [END], "sentence 2 has 15 tokens, and the model's context is 14"),
        ([3, 9, END], "sentence 2 has id 9 at position 1"),
    ],
)
def test_what_no_encoder_can_read_is_named_before_anything_is_translated(ids: list[int], said: str) -> None:
    many = [*some(2), np.array(ids, dtype=np.uint16), *some(2)]
    told: list[int] = []
    with pytest.raises(UsageError, match=said):
        beam_search_all(small(), many, progress=lambda done, total: told.append(done), batch_tokens=1, **HOW)
    assert not told


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 100), st.integers(0, 9))
def test_batches_hold_every_sentence_once_and_no_more_than_they_may(
    lengths: list[int], tokens: int, most: int
) -> None:
    found = list(batches(lengths, tokens, most))
    assert sorted(n for batch in found for n in batch) == list(range(len(lengths)))
    ordered = [lengths[n] for batch in found for n in batch]
    assert ordered == sorted(lengths, reverse=True)
    for batch in found:
        places = len(batch) * max(lengths[n] for n in batch)
        assert len(batch) == 1 or (places <= tokens and len(batch) <= most)
