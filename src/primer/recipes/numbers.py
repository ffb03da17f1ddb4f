"""The numbers of a run: its weights one by one, and the exponents of all that it computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from primer.data.batches import Learnable, evaluation_windows
from primer.data.pairs import evaluation_pairs
from primer.errors import UsageError, nearest
from primer.lens.exponents import Exponents, exponents
from primer.recipes.build import rows_to_score
from primer.recipes.config import RunConfig
from primer.recipes.scores import validation_ids
from primer.recipes.text import open_data
from primer.recipes.translation import reopen
from primer.training.distributed import World

if TYPE_CHECKING:
    from primer.recipes.loaded import Run


def weight(run: Run, name: str) -> Tensor:
    """A weight by its name. UsageError for another one, with the nearest."""
    weights = dict(run.model.named_parameters())
    if name not in weights:
        close = nearest(name, list(weights))
        raise UsageError(
            f"this run has no weight {name!r}",
            str(run.path),
            f"--tensor={close}" if close else f"primer float --run={run.directory.handle}",
        )
    return weights[name].detach()


def number(tensor: Tensor, index: tuple[int, ...], name: str) -> float:
    """One number of a weight. UsageError where the index leads out of it."""
    shape = tuple(tensor.shape)
    if len(index) != len(shape) or any(not -n <= i < n for i, n in zip(index, shape, strict=True)):
        last = ",".join(str(n - 1) for n in shape)
        raise UsageError(
            f"{name} has the shape {shape}", f"--index={','.join(map(str, index))}", f"--index={last}"
        )
    return float(tensor[index])


def exponents_of(run: Run, tokens: int) -> dict[str, Exponents]:
    """The exponents of a run's weights, and of what it computes of the beginning of its validation text."""
    device = next(run.model.parameters()).device
    pieces = (
        (piece.inputs, piece.targets)
        for batch in validation(run, tokens)
        for piece in batch.pieces(tokens, device, 1)
    )
    with run.precision().autocast():
        return exponents(run.model, pieces)


def validation(run: Run, tokens: int) -> Iterator[Learnable]:
    """Batches of about so many tokens from the beginning of a run's validation text, in all."""
    config = run.config
    if isinstance(config, RunConfig):
        ids = validation_ids(open_data(config, run.directory, World()), tokens)
        rows = rows_to_score(config.model, next(run.model.parameters()).device)
        yield from evaluation_windows(ids, batch_size=rows, context_length=config.model.context_length)
        return
    pairs = reopen(config, run.directory, moved=False).pairs("validation")
    yield next(evaluation_pairs(pairs, tokens, config.model.context_length))
