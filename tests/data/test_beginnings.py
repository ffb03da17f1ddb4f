"""Windows that begin at documents, judged by the rule in its plainest words."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from primer.data import beginnings
from primer.data.batches import BatchStream
from primer.data.beginnings import aligned, document_starts, spaced
from primer.data.writer import write_shards
from primer.errors import DataError, UsageError
from primer.tokens import CharTokenizer

BEGIN = 7


def text_of(lengths, before=0):
    """Documents of these lengths with their BEGIN, after `before` tokens that belong to none; ids tell places."""
    tokens = np.arange(before + sum(lengths)) * 100 + 11
    starts = before + np.cumsum([0, *lengths[:-1]])
    tokens[starts] = BEGIN
    return tokens


lengths = st.lists(st.integers(1, 25), min_size=1, max_size=30)


@st.composite
def texts(draw):
    """(tokens, context length) of which at least one document is followed by a whole window."""
    tokens, context = text_of(draw(lengths), draw(st.integers(0, 9))), draw(st.integers(1, 12))
    starts = np.flatnonzero(tokens == BEGIN)
    assume(starts[0] + context + 1 <= len(tokens))
    return tokens, context


def stream(tokens, batch_size=4, context_length=8, seed=1, **options):
    options = {"order": "documents", "begin": BEGIN} | options
    return BatchStream(tokens, batch_size=batch_size, context_length=context_length, seed=seed, **options)


def by_hand(tokens, context, first):
    """Walking through the text token by token: once around from `first`, taking every window that can be taken."""
    size = len(tokens)
    starts, free = [], first
    for place in range(first, first + size):
        wraps = place >= size
        fits = place % size + context + 1 <= size and (not wraps or place + context <= first + size)
        if tokens[place % size] == BEGIN and place >= free and fits:
            starts.append(place % size)
            free = place + context
    return starts


def epoch_of(batches):
    """The windows' starts in one epoch."""
    epoch, starts = batches.epoch, []
    while True:
        starts += batches.next().starts.tolist()
        if batches.index == len(batches._epoch_starts()):
            batches.epoch, batches.index = epoch + 1, 0
            return starts


@given(st.lists(st.integers(0, 300), min_size=1, max_size=80, unique=True), st.integers(1, 40))
def test_every_next_place_is_the_first_that_is_far_enough(places, distance):
    places = sorted(places)
    chosen = [places[0]]
    for place in places:
        if place >= chosen[-1] + distance:
            chosen.append(place)
    assert spaced(np.array(places), distance).tolist() == chosen


@given(st.lists(st.booleans(), max_size=50), st.integers(1, 7))
def test_documents_are_found_whatever_the_blocks(marks, block):
    tokens = np.array([BEGIN if mark else 3 for mark in marks], dtype=np.uint16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beginnings, "BLOCK", block)
        found = document_starts(tokens, BEGIN)
    assert found.dtype == np.int64
    assert found.tolist() == [place for place, mark in enumerate(marks) if mark]


def test_an_id_that_the_tokens_type_cannot_hold_is_nowhere():
    assert document_starts(np.zeros(9, np.uint8), 50256).tolist() == []


@given(texts(), st.data())
def test_once_around_from_any_document_takes_every_window_that_can_be_taken(text, data):
    tokens, context = text
    starts = np.flatnonzero(tokens == BEGIN)
    starts = starts[starts + context + 1 <= len(tokens)]
    first = data.draw(st.integers(0, len(starts) - 1))
    assert aligned(starts, context, len(tokens), first).tolist() == by_hand(tokens, context, starts[first])


@given(texts(), st.integers(0, 1000))
def test_an_epoch_is_those_windows_shuffled_and_every_row_begins_a_document(text, seed):
    tokens, context = text
    batches = stream(tokens, 1, context, seed)
    for _ in range(3):
        dealt = epoch_of(batches)
        around = [
            by_hand(tokens, context, first)
            for first in np.flatnonzero(tokens == BEGIN)
            if first + context + 1 <= len(tokens)
        ]
        assert sorted(dealt) in [sorted(each) for each in around]
    batch = stream(tokens, 5, context, seed).next()
    for inputs, targets, start in zip(batch.inputs, batch.targets, batch.starts.tolist(), strict=True):
        assert inputs[0] == BEGIN
        assert inputs.tolist() == tokens[start : start + context].tolist()
        assert targets.tolist() == tokens[start + 1 : start + context + 1].tolist()


@given(texts(), st.integers(0, 1000))
def test_no_token_is_read_twice_in_an_epoch(text, seed):
    tokens, context = text
    starts = sorted(epoch_of(stream(tokens, 1, context, seed)))
    assert starts[0] >= 0
    assert all(b - a >= context for a, b in pairwise(starts))
    assert starts[-1] + context + 1 <= len(tokens)


def test_an_example_that_can_be_followed():
    """Documents of 3, 9, 1, 4 and 8 tokens: after 12 … 15 the document at 13 is passed over, and that at 17 is next."""
    tokens = text_of([3, 9, 1, 4, 8])
    starts = np.flatnonzero(tokens == BEGIN)
    assert starts.tolist() == [0, 3, 12, 13, 17]
    assert aligned(starts, 4, 25, 1).tolist() == [3, 12, 17]  # 0 … 3 would run into the first window
    assert aligned(starts, 4, 25, 0).tolist() == [0, 12, 17]
    assert aligned(starts, 4, 25, 3).tolist() == [13, 17, 0]  # 12 would run into 13
    assert aligned(starts, 3, 25, 3).tolist() == [13, 17, 0, 3]


@given(texts(), st.integers(1, 7), st.integers(0, 9), st.integers(0, 1000))
def test_resuming_at_any_position_equals_never_stopping(text, batch_size, before, seed):
    tokens, context = text
    whole = stream(tokens, batch_size, context, seed)
    for _ in range(before):
        whole.next()
    state = json.loads(json.dumps(whole.state()))
    resumed = stream(tokens, 1, 1, seed)
    resumed.restore(state)
    for _ in range(6):
        mine, theirs = resumed.next(), whole.next()
        assert torch.equal(mine.inputs, theirs.inputs)
        assert torch.equal(mine.targets, theirs.targets)


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_ranks_share_the_same_global_batch_disjointly(world_size):
    tokens = text_of([9, 14, 3, 30, 11, 8, 8, 21] * 5)
    whole = stream(tokens, 6)
    ranks = [stream(tokens, 6, rank=r, world_size=world_size) for r in range(world_size)]
    for _ in range(20):
        together = torch.cat([rank.next().inputs for rank in ranks])
        assert torch.equal(together, whole.next().inputs)


def test_the_seed_and_the_epoch_decide():
    tokens = text_of([9, 14, 3, 30, 11, 8, 8, 21] * 20)
    first, again, other = (stream(tokens, 1, seed=seed) for seed in (1, 1, 2))
    epochs = [epoch_of(first) for _ in range(3)]
    assert [epoch_of(again) for _ in range(3)] == epochs
    assert epochs[0] != epochs[1] != epochs[2]
    assert sum(a > b for a, b in pairwise(epochs[0])) > 20  # shuffled, not merely begun elsewhere
    assert epoch_of(other) != epochs[0]
    assert len({tuple(sorted(epoch_of(stream(text_of([5] * 40), 1, seed=seed)))) for seed in range(9)}) > 1


def test_another_context_length_starts_a_fresh_pass_of_its_own_windows():
    tokens = text_of([9, 14, 3, 30, 11, 8, 8, 21] * 5)
    batches = stream(tokens, 4, 4)
    batches.next()
    batches.reshape(1, 8)
    assert (batches.epoch, batches.index) == (1, 0)
    starts = sorted(epoch_of(batches))
    assert starts in [sorted(by_hand(tokens, 8, first)) for first in np.flatnonzero(tokens == BEGIN)[:-1]]
    batches.reshape(4, 4)
    state = batches.state()
    resumed = stream(tokens, 2, 8)
    resumed.restore(state)
    assert torch.equal(resumed.next().inputs, batches.next().inputs)


def test_what_an_epoch_leaves_out_is_said_once_and_by_one_process(caplog):
    tokens = text_of([10, 10, 10, 70])
    batches = stream(tokens, 1, 10)
    for _ in range(3):
        epoch_of(batches)
    assert [record.message for record in caplog.records] == [
        "windows begin at documents: an epoch leaves out 60.0 % of the tokens"
    ]
    caplog.clear()
    stream(tokens, 2, 10, rank=1, world_size=2).next()
    assert caplog.text == ""


def test_a_text_without_documents_is_refused():
    with pytest.raises(UsageError, match="no token that stands before one") as caught:
        stream(np.arange(50), begin=None)
    assert caught.value.hint == "--data.order=epochs"
    with pytest.raises(DataError, match="does not hold the token before one, 7") as refused:
        stream(np.full(50, 3))
    assert refused.value.hint == "--data.order=epochs"


def test_documents_too_near_the_end_are_refused_and_the_last_that_fits_is_read():
    tokens = np.arange(100, 150)
    tokens[41] = BEGIN
    assert stream(tokens, 2).next().starts.tolist() == [41, 41]
    tokens[41:43] = 3, BEGIN
    with pytest.raises(DataError, match="as many tokens as one window needs, 9"):
        stream(tokens)
    short = stream(tokens, context_length=7)
    with pytest.raises(DataError, match="one window needs, 9"):
        short.reshape(4, 8)


def test_a_position_of_another_order_is_refused():
    tokens = text_of([20, 20])
    state = stream(tokens, order="epochs").state()
    with pytest.raises(DataError, match="its order is epochs, here it is documents"):
        stream(tokens).restore(state)


@given(lengths.filter(lambda each: sum(each) > 9), st.integers(1, 50))
def test_shards_are_read_as_one_text(tmp_path_factory, each, shard_tokens):
    """Documents and windows cross from shard to shard."""
    tokenizer = CharTokenizer("abcdefgh")
    ids = np.random.default_rng(0).integers(7, size=sum(each))
    ids[np.cumsum([0, *each[:-1]])] = BEGIN
    folder = tmp_path_factory.mktemp("s") / "s"
    shards = write_shards(folder, {"train": [ids]}, tokenizer, shard_tokens=shard_tokens)
    split, whole = stream(shards.tokens("train")), stream(ids)
    for _ in range(5):
        assert torch.equal(split.next().inputs, whole.next().inputs)


def test_how_much_can_be_reached_at_most():
    assert stream(text_of([400, 400]), 1, 20).reach() == 0.05
    assert stream(text_of([20] * 40), 1, 20).reach() == 1
    assert stream(text_of([400, 400]), 1, 20, order="epochs").reach() == 1
