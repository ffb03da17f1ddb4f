"""Models that no single device can hold: every process keeps one slice of each weight, gradient and moment.

Zhao et al. 2023 (PyTorch FSDP; here its second form, `fully_shard`). Before a layer is used its slices are gathered,
afterwards they are let go; gradients are summed so that each process gets its own slice. What is elementwise (AdamW,
means, clipping) then works on slices alone. A tensor that is not sharded is its own slice and its own whole, so that
whoever uses these functions need not ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from primer.nn.probe import STACKS


def shard(model: nn.Module) -> None:
    """Keep only this process's slices of the weights; a layer is gathered at a time."""
    from torch.distributed.fsdp import fully_shard

    for stack in STACKS:
        for layer in getattr(model, stack, ()):
            fully_shard(layer)
    # By default the outermost part stays gathered after a forward pass, for a backward pass that evaluating has not.
    fully_shard(model, reshard_after_forward=True)


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` was called: all processes must then use the model together."""
    return any(_sharded(p) for p in model.parameters())


def local(tensor: Any) -> Tensor:
    """This process's slice; writing into it changes the tensor."""
    return tensor.to_local() if _sharded(tensor) else tensor


def whole(tensor: Any) -> Tensor:
    """All slices together; every process must ask for it."""
    return tensor.full_tensor() if _sharded(tensor) else tensor


def gathered(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The wholes, in main memory, one tensor at a time; only a process that wants to `keep` them does."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        together = whole(tensor.detach())
        if keep:
            found[name] = together.cpu() if _sharded(tensor) else together
    return found


def slice_of(value: Tensor, like: Tensor) -> Tensor:
    """Of a whole tensor that every process has, the slice that this one keeps of `like`."""
    if not _sharded(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    placed: Any = like
    here = value.to(local(like).device)
    return distribute_tensor(here, placed.device_mesh, placed.placements, src_data_rank=None).to_local()


def put(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    local(target).copy_(slice_of(value, target))


def joined_again(slice_: Tensor, like: Tensor) -> Tensor:
    """The whole of what has a slice in every process, sliced as `like` is."""
    if not _sharded(like):
        return slice_
    from torch.distributed.tensor import DTensor

    placed: Any = like
    return DTensor.from_local(
        slice_, placed.device_mesh, placed.placements, shape=like.shape, stride=like.stride()
    ).full_tensor()


def _sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "to_local")  # a DTensor; to import its class takes a quarter of a second
