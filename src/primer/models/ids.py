"""Ids as they come to a model: what lies outside its vocabulary is named before a device stumbles over it."""

import torch
from jaxtyping import Int
from torch import Tensor

from primer.errors import UsageError


def check_ids(ids: Int[Tensor, "*B"], vocab_size: int, name: str = "the input", least: int = 0) -> None:
    """UsageError that names the first id outside 0 … V − 1, with its position (and its row, where there are several).

    On a GPU such an id ends the process's use of the device ("device-side assert"), and says nothing about where it
    was. Asking waits for the device, so it is done where ids come in, not at every step. `least`: the lowest id that is
    allowed, where padding is.
    """
    if ids.numel() == 0:
        return
    lowest, highest = torch.aminmax(ids)
    if int(lowest) >= least and int(highest) < vocab_size:
        return
    place = ((ids < least) | (ids >= vocab_size)).nonzero()[0].tolist()
    where = f"position {place[-1]}" + (f" of row {place[0]}" if len(place) > 1 and len(ids) > 1 else "")
    raise UsageError(
        f"{name} has id {int(ids[tuple(place)])} at {where}, and the vocabulary ends at {vocab_size - 1}",
        hint="ids of the tokenizer that the model was trained with",
    )
