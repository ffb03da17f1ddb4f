"""Reading without learning: every module in evaluation mode, and back in its own mode afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def reading(model: nn.Module) -> Iterator[None]:
    """No dropout while this lasts. A part that was in another mode than the whole gets its own back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
