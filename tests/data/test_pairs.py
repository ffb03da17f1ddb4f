"""Batches of pairs: every pair once an epoch, little padding, the same for any number of processes, and resumable."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.data.pairs import (
    MOST_PADDING,
    Pairs,
    PairStream,
    Sentences,
    batch_of,
    buckets,
    evaluation_pairs,
    padding,
    within,
)
from primer.errors import DataError, UsageError
from primer.shapes import PADDING

END = 99


def sentences(lengths: list[int], seed: int) -> Sentences:
    rng = np.random.default_rng(seed)
    rows = [np.append(rng.integers(0, END, length - 1), END) for length in lengths]
    return Sentences(np.concatenate(rows).astype(np.uint8), np.cumsum(lengths))


def some(count: int = 200, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    source = rng.integers(2, 30, count)
    target = np.maximum(1, source + rng.integers(-4, 5, count))
    return Pairs(sentences(source.tolist(), 1), sentences(target.tolist(), 2))


lengths = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=80)


@settings(deadline=None)
@given(lengths, st.integers(1, 300))
def test_buckets_hold_every_pair_once_within_their_bounds(found: list[tuple[int, int]], tokens: int) -> None:
    source, target = (np.array(side) for side in zip(*found, strict=True))
    batches = buckets(source, target, tokens, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(found)))
    for batch in batches:
        wide, high = int(source[batch].max()), int(target[batch].max())
        if len(batch) > 1:
            assert len(batch) * max(wide, high) <= tokens
        real = int(source[batch].sum() + target[batch].sum())
        assert real >= (1 - MOST_PADDING) * len(batch) * (wide + high) - 1e-9


def test_a_batch_is_the_sentences_and_the_target_one_token_late() -> None:
    pairs = Pairs(
        Sentences(np.array([5, 6, 7, END, 8, END]), np.array([4, 6])),
        Sentences(np.array([1, END, 2, 3, END]), np.array([2, 5])),
    )
    batch = batch_of(pairs, [0, 1])
    assert batch.source.tolist() == [[5, 6, 7, END], [8, END, PADDING, PADDING]]
    assert batch.inputs.tolist() == [[END, 1, PADDING], [END, 2, 3]]
    assert batch.targets.tolist() == [[1, END, PADDING], [2, 3, END]]
    assert (batch.whole, batch.longest) == (5, 4)


def numbers_of(stream: PairStream, steps: int) -> list[list[list[int]]]:
    return [stream.next().source.tolist() for _ in range(steps)]


def test_an_epoch_is_every_pair_once_in_another_order_each_time() -> None:
    stream = PairStream(some(), batch_tokens=120, longest=60, seed=3)
    epochs = []
    for _ in range(2):
        batches = stream.batches()
        epochs.append([batch.tolist() for batch in batches])
        for _ in batches:
            stream.next()
        stream.next()  # the first of the next epoch
        stream.index = 0
    for epoch in epochs:
        assert sorted(number for batch in epoch for number in batch) == list(range(200))
    assert epochs[0] != epochs[1]
    again = PairStream(some(), batch_tokens=120, longest=60, seed=3)
    assert [batch.tolist() for batch in again.batches()] == epochs[0]
    other = PairStream(some(), batch_tokens=120, longest=60, seed=4)
    assert [batch.tolist() for batch in other.batches()] != epochs[0]


def test_it_goes_on_where_it_was_also_in_a_later_epoch() -> None:
    stream = PairStream(some(), batch_tokens=120, longest=60, seed=3)
    for _ in range(len(stream.batches()) + 7):
        stream.next()
    state = stream.state()
    wanted = numbers_of(stream, 40)
    fresh = PairStream(some(), batch_tokens=120, longest=60, seed=3)
    fresh.restore(state)
    assert numbers_of(fresh, 40) == wanted
    with pytest.raises(DataError, match="belongs to other data"):
        PairStream(some(100), batch_tokens=120, longest=60, seed=3).restore(state)


def moved_on(stream: PairStream, batch_tokens: int) -> PairStream:
    """The stream as a run that goes on with such batches has it."""
    again = PairStream(some(), batch_tokens=batch_tokens, longest=60, seed=3)
    again.restore(json.loads(json.dumps(stream.state())))
    return again


def test_with_another_size_what_is_left_of_an_epoch_is_cut_anew() -> None:
    """Every pair of the epoch still comes once, in batches of the size that was asked for last."""
    stream = PairStream(some(), batch_tokens=60, longest=60, seed=3)
    met: list[int] = []
    for batch_tokens in (200, 120):
        met += np.concatenate(stream.batches()[:7]).tolist()
        numbers_of(stream, 7)
        stream = moved_on(stream, batch_tokens)
    left = stream.batches()
    assert sorted([*met, *np.concatenate(left).tolist()]) == list(range(200))
    places = [batch_of(some(), batch).source.numel() for batch in left]
    assert 60 < max(places) <= 120
    numbers_of(stream, 3)
    again = moved_on(stream, 120)
    assert numbers_of(again, 90) == numbers_of(stream, 90)
    assert (again.epoch, again.before) == (stream.epoch, []) != (0, [])


def test_an_epoch_that_was_dealt_is_over_whatever_the_size() -> None:
    stream = PairStream(some(), batch_tokens=60, longest=60, seed=3)
    numbers_of(stream, len(stream.batches()))
    stream = moved_on(stream, 200)
    stream.next()
    assert (stream.epoch, stream.index, stream.before) == (1, 1, [])


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_have_the_same_batch_together(processes: int) -> None:
    """Each as many rows in as many pieces; rows that fill up count for nothing; shares make up the whole."""
    single = PairStream(some(), batch_tokens=70, longest=60, seed=3)
    ranks = [
        PairStream(some(), batch_tokens=70, longest=60, seed=3, rank=rank, world_size=processes)
        for rank in range(processes)
    ]
    uneven = False
    for _ in range(60):
        whole = single.next()
        parts = [stream.next() for stream in ranks]
        assert {part.tokens(processes) for part in parts} == {int((whole.targets != PADDING).sum())}
        assert len({len(part.source) for part in parts}) == 1
        uneven |= len(parts[0].source) * processes != len(whole.source)
        pieces = [part.pieces(40, torch.device("cpu"), processes) for part in parts]
        assert len({len(each) for each in pieces}) == 1
        assert sum(piece.share for each in pieces for piece in each) == pytest.approx(processes)
        counted = [
            row[row != PADDING].tolist() for part in parts for row in part.targets if (row != PADDING).any()
        ]
        assert sorted(counted) == sorted(row[row != PADDING].tolist() for row in whole.targets)
    assert uneven


def test_pieces_are_the_batch_in_order_and_weighted_by_their_targets() -> None:
    batch = batch_of(some(), list(range(20)))
    pieces = batch.pieces(90, torch.device("cpu"), 1)
    assert len(pieces) > 2
    assert torch.equal(torch.cat([piece.inputs[0] for piece in pieces]), batch.source)
    assert torch.equal(torch.cat([piece.targets for piece in pieces]), batch.targets)
    for piece in pieces:
        assert piece.share == int((piece.targets != PADDING).sum()) / batch.whole
        assert len(piece.targets) * batch.longest <= 90 or len(piece.targets) == 1


def test_padding_is_what_is_no_token() -> None:
    pairs = some()
    batches = buckets(pairs.source.lengths, pairs.target.lengths, 200, np.random.default_rng(0))
    places = tokens = 0
    for batch in batches:
        made = batch_of(pairs, batch)
        places += made.source.numel() + made.targets.numel()
        tokens += int((made.source != PADDING).sum() + (made.targets != PADDING).sum())
    assert padding(pairs, batches) == pytest.approx(1 - tokens / places)
    assert 0 < padding(pairs, batches) < MOST_PADDING


def test_what_is_too_long_is_left_out_and_counted() -> None:
    pairs = some()
    longest = 20
    stream = PairStream(pairs, batch_tokens=120, longest=longest, seed=3)
    too_long = np.maximum(pairs.source.lengths, pairs.target.lengths) > longest
    assert stream.left_out == int(too_long.sum()) > 0
    met = np.concatenate(stream.batches())
    assert sorted(met.tolist()) == np.flatnonzero(~too_long).tolist() == within(pairs, longest).tolist()
    scored = [row for batch in evaluation_pairs(pairs, 100, longest) for row in batch.source]
    assert len(scored) == len(met)
    with pytest.raises(DataError, match="none has two sentences of 1 tokens"):
        PairStream(pairs, batch_tokens=120, longest=1, seed=3)


def test_a_batch_of_no_tokens_is_refused() -> None:
    options: dict[str, Any] = {"longest": 60, "seed": 3}
    with pytest.raises(UsageError):
        PairStream(some(), batch_tokens=0, **options)
    one = PairStream(some(), batch_tokens=1, **options)  # a pair at a time, however long
    assert one.next().source.shape[0] == 1
