"""Ids outside the vocabulary: named with their place, before any device reads them."""

import pytest
import torch

from primer.errors import UsageError
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.models.ids import check_ids


@pytest.mark.parametrize("wrong", [11, 300, -1])
@pytest.mark.parametrize(("row", "position"), [(0, 0), (1, 2)])
def test_the_first_wrong_id_is_named_with_its_place(wrong: int, row: int, position: int) -> None:
    ids = torch.full((2, 3), 10)
    check_ids(ids, 11)
    ids[row, position] = wrong
    with pytest.raises(UsageError, match=rf"id {wrong} at position {position} of row {row}, .* ends at 10"):
        check_ids(ids, 11)
    with pytest.raises(UsageError, match=rf"the prompt has id {wrong} at position {position}, "):
        check_ids(ids[row], 11, "the prompt")


def test_nothing_is_never_wrong() -> None:
    check_ids(torch.zeros(1, 0, dtype=torch.long), 1)


def test_a_model_names_them_too() -> None:
    model = GPT(GPTConfig(vocab_size=11, context_length=8, d_model=16, n_layers=1, n_heads=2))
    with pytest.raises(UsageError, match="id 11 at position 4, and the vocabulary ends at 10"):
        model(torch.tensor([[0, 1, 2, 3, 11]]))
    cache = model.new_cache(1)
    model(torch.tensor([[0, 1]]), cache)
    with pytest.raises(UsageError, match="id -1 at position 0"):
        model(torch.tensor([[-1]]), cache)
    assert cache.length == 2
