"""What is not sharded is its own slice and its own whole; what is, is tried by two processes (test_processes)."""

import torch
from torch import nn

from primer.data.batches import Batch
from primer.recipes.build import Spare, dealt
from primer.training.distributed import World
from primer.training.sharding import gathered, is_sharded, joined_again, local, put, slice_of, whole


def test_alone_everything_is_itself() -> None:
    x, y = torch.arange(6.0), torch.ones(6)
    assert local(x) is x
    assert whole(x) is x
    assert slice_of(x, y) is x
    assert joined_again(x, y) is x
    put(y, x)
    assert torch.equal(y, x)
    assert not is_sharded(nn.Linear(2, 2))
    assert gathered({"x": x}, keep=True)["x"].data_ptr() == x.data_ptr()
    assert gathered({"x": x}, keep=False) == {}


def batches(count: int) -> list[Batch]:
    numbers = [torch.tensor([[number]]) for number in range(count)]
    return [Batch(number, number, number[0]) for number in numbers]


def test_batches_are_dealt_once_and_to_all_alike_where_they_must_be() -> None:
    for count in range(1, 9):
        hands = [list(dealt(batches(count), World(rank, 3), together=True)) for rank in range(3)]
        assert len({len(hand) for hand in hands}) == 1
        scored = [batch.inputs.item() for hand in hands for batch in hand if type(batch) is not Spare]
        assert sorted(scored) == list(range(count))
        assert sum(type(batch) is Spare for hand in hands for batch in hand) == -count % 3
    hands = [list(dealt(batches(4), World(rank, 3), together=False)) for rank in range(3)]
    assert [len(hand) for hand in hands] == [2, 1, 1]
