import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.data.batches import BatchStream, evaluation_windows
from primer.data.writer import write_shards
from primer.errors import DataError, UsageError
from primer.tokens import CharTokenizer

sizes = st.tuples(st.integers(2, 120), st.integers(1, 20), st.integers(1, 9)).filter(lambda s: s[0] > s[1])
orders = st.sampled_from(["epochs", "random"])


def stream(tokens=None, batch_size=4, context_length=8, seed=1, **options):
    tokens = np.arange(200) if tokens is None else tokens
    return BatchStream(tokens, batch_size=batch_size, context_length=context_length, seed=seed, **options)


def rows(batch):
    """A batch as lists of T + 1 tokens, after checking that targets are the inputs' followers."""
    torch.testing.assert_close(batch.inputs[:, 1:], batch.targets[:, :-1])
    return torch.cat([batch.inputs, batch.targets[:, -1:]], dim=1).tolist()


@given(sizes, orders, st.integers(0, 2**32))
def test_every_row_is_a_window_of_the_text(size, order, seed):
    length, context, batch_size = size
    batches = stream(np.arange(length), batch_size, context, seed, order=order)
    for _ in range(3):
        batch = batches.next()
        assert batch.inputs.dtype == batch.targets.dtype == torch.int64
        assert batch.inputs.is_contiguous()
        assert batch.targets.is_contiguous()
        for row in rows(batch):
            assert row == list(range(row[0], row[0] + context + 1))
            assert row[-1] < length


@given(sizes, st.integers(0, 1000))
def test_an_epoch_shows_every_token_at_most_once_and_all_but_the_ends(size, seed):
    length, context, _ = size
    batches = stream(np.arange(length), 1, context, seed)
    for epoch in range(3):
        shown = []
        while batches.epoch == epoch and (batches.index == 0 or batches.index < len(batches._epoch_starts())):
            shown += batches.next().inputs.flatten().tolist()
        batches.epoch, batches.index = epoch + 1, 0
        assert len(shown) == len(set(shown))
        assert sorted(shown) == list(range(min(shown), max(shown) + 1))
        assert min(shown) < context  # only the offset is left out before …
        assert max(shown) >= length - 1 - context  # … and less than a window behind


@given(sizes, st.integers(0, 1000))
def test_no_window_is_lost_between_epochs(size, seed):
    """Batches that do not divide an epoch deal the same windows as batches of one."""
    length, context, batch_size = size
    single = stream(np.arange(length), 1, context, seed)
    many = stream(np.arange(length), batch_size, context, seed)
    assert [row for _ in range(4) for row in rows(many.next())] == [
        row for _ in range(4 * batch_size) for row in rows(single.next())
    ]


def test_epochs_differ_in_offset_and_order():
    batches = stream(np.arange(8 * 100 + 1), 1, 8)
    starts: dict[int, list[int]] = {}
    while batches.epoch < 3:
        ((start, *_),) = rows(batches.next())
        starts.setdefault(batches.epoch, []).append(start)
    orders = [[start // 8 for start in starts[epoch]] for epoch in range(3)]
    assert all(sorted(order) == list(range(len(order))) != order for order in orders[:2])
    assert orders[0][:50] != orders[1][:50]
    assert len({min(starts[epoch]) for epoch in range(2)}) == 2
    assert len({min(row[0] for row in rows(stream(seed=s, batch_size=24).next())) for s in range(50)}) > 4


@given(sizes, orders, st.integers(0, 9), st.integers(0, 1000))
def test_resuming_at_any_position_equals_never_stopping(size, order, before, seed):
    length, context, batch_size = size
    tokens = np.random.default_rng(0).integers(50, size=length)
    whole = stream(tokens, batch_size, context, seed, order=order)
    for _ in range(before):
        whole.next()
    state = json.loads(json.dumps(whole.state()))
    resumed = stream(tokens, 1, 1, seed, order=order)
    resumed.restore(state)
    assert [rows(resumed.next()) for _ in range(6)] == [rows(whole.next()) for _ in range(6)]


@pytest.mark.parametrize("order", ["epochs", "random"])
@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_ranks_share_the_same_global_batch_disjointly(order, world_size):
    whole = stream(batch_size=6, order=order)
    ranks = [stream(batch_size=6, order=order, rank=r, world_size=world_size) for r in range(world_size)]
    for _ in range(10):
        together = [row for rank in ranks for row in rows(rank.next())]
        assert together == rows(whole.next())


def test_a_run_can_resume_on_another_number_of_ranks():
    whole = stream(batch_size=6)
    pair = [stream(batch_size=6, rank=r, world_size=2) for r in range(2)]
    for _ in range(5):
        whole.next()
        for rank in pair:
            rank.next()
    assert pair[0].state() == pair[1].state() == whole.state()
    three = [stream(batch_size=6, rank=r, world_size=3) for r in range(3)]
    for rank in three:
        rank.restore(whole.state())
    assert [row for rank in three for row in rows(rank.next())] == rows(whole.next())


def test_the_seed_decides():
    def first(seed, order):
        return rows(stream(seed=seed, order=order).next())

    for order in ("epochs", "random"):
        assert first(1, order) == first(1, order)
        assert first(1, order) != first(2, order)


def test_random_windows_start_everywhere():
    batches = stream(np.arange(12), 2000, 8, order="random")
    starts = batches.next().inputs[:, 0].tolist()
    assert set(starts) == {0, 1, 2, 3}  # 12 − 8 places, as randint(len(data) − block_size) in the lecture
    assert rows(batches.next()) != rows(batches.next())


def test_another_context_length_starts_a_fresh_pass():
    batches = stream(np.arange(401), 4, 4)
    batches.next()
    batches.reshape(2, 8)
    assert (batches.epoch, batches.index) == (1, 0)
    assert batches.next().inputs.shape == (2, 8)
    batches.reshape(3, 8)  # a batch of another size goes on where it was
    assert (batches.epoch, batches.index) == (1, 2)
    shown = [row for _ in range(16) for row in rows(batches.next())]
    assert len({row[0] for row in shown}) == len(shown)
    resumed = stream(np.arange(401), 4, 4)
    resumed.restore(batches.state())
    assert rows(resumed.next()) == rows(batches.next())


def test_a_shape_before_the_first_batch_is_no_new_pass():
    batches = stream(batch_size=4, context_length=4)
    batches.reshape(2, 8)
    assert rows(batches.next()) == rows(stream(batch_size=2, context_length=8).next())


@pytest.mark.parametrize("change", [{"seed": 2}, {"tokens": np.arange(201)}, {"order": "random"}])
def test_a_position_in_other_data_is_refused(change):
    state = stream().state()
    with pytest.raises(DataError, match=next(iter(change))):
        stream(**change).restore(state)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"batch_size": 0}, "0 × 8"),
        ({"context_length": 0}, "4 × 0"),
        ({"rank": 2, "world_size": 2}, "rank 2"),
        ({"batch_size": 5, "world_size": 2}, "does not divide"),
    ],
)
def test_impossible_shapes_are_refused(options, complaint):
    with pytest.raises(UsageError, match=complaint):
        stream(**options)


def test_a_text_without_one_whole_window_is_refused():
    with pytest.raises(DataError, match="holds 8 tokens, and one window needs 9"):
        stream(np.arange(8))
    assert rows(stream(np.arange(9), 2).next()) == [list(range(9))] * 2  # one window, again and again


@given(sizes)
def test_evaluation_covers_every_target_exactly_once(size):
    length, context, batch_size = size
    batches = list(evaluation_windows(np.arange(length), batch_size=batch_size, context_length=context))
    targets = [t for batch in batches for t in batch.targets.flatten().tolist()]
    assert targets == list(range(1, length))
    for batch in batches:
        assert batch.inputs.shape[0] <= batch_size
        assert batch.inputs.shape[1] <= context
        rows(batch)
    assert all(batch.inputs.shape == (batch_size, context) for batch in batches[:-2])


def test_a_split_shorter_than_the_context_is_evaluated_as_it_is():
    (batch,) = evaluation_windows(np.arange(5), batch_size=4, context_length=8)
    assert rows(batch) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("length", [0, 1])
def test_nothing_to_evaluate_is_said(length):
    with pytest.raises(DataError, match="nothing to evaluate"):
        list(evaluation_windows(np.arange(length), batch_size=4, context_length=8))


@settings(max_examples=20)
@given(st.integers(1, 50), orders)
def test_shards_are_read_as_one_text(tmp_path_factory, shard_tokens, order):
    """The story: trainers that drop what is left at the end of every shard."""
    ids = np.random.default_rng(0).integers(8, size=99)
    folder = tmp_path_factory.mktemp("s") / "s"
    shards = write_shards(folder, {"train": [ids]}, CharTokenizer("abcdefgh"), shard_tokens=shard_tokens)
    split, whole = stream(shards.tokens("train"), order=order), stream(ids, order=order)
    for _ in range(9):
        assert rows(split.next()) == rows(whole.next())
    for mine, plain in zip(
        evaluation_windows(shards.tokens("train"), batch_size=3, context_length=8),
        evaluation_windows(ids, batch_size=3, context_length=8),
        strict=True,
    ):
        assert rows(mine) == rows(plain)
