"""The numbers of a run: its weights one by one, and the exponents of all that it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from primer.data.batches import Learnable, evaluation_windows
from primer.data.pairs import evaluation_pairs
from primer.errors import UsageError, nearest
from primer.evals.likelihood import Progress
from primer.lens.exponents import Batch, Exponents, Part, exponents
from primer.recipes.build import rows_to_score
from primer.recipes.config import RunConfig
from primer.recipes.scores import validation_ids
from primer.recipes.text import open_data
from primer.recipes.translation import evaluated_at_once, reopen
from primer.shapes import PADDING
from primer.training.distributed import World

if TYPE_CHECKING:
    from primer.recipes.loaded import Run


def weights_of(run: Run) -> dict[str, nn.Parameter]:
    """All weights by all of their names: a tied head is the embedding by another one."""
    return dict(run.model.named_parameters(remove_duplicate=False))


def weight(run: Run, name: str) -> Tensor:
    """A weight by its name, or by another one of its names. UsageError for no name, with the nearest."""
    weights = weights_of(run)
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


@dataclass(frozen=True)
class Histogram:
    """The exponents of a run's numbers, and what they were found with."""

    of: dict[str, Exponents]
    tokens: int
    """Targets of the validation text that were computed."""
    batch: int
    """Positions of a batch of the run, over whose mean loss the gradients are."""


def exponents_of(run: Run, tokens: int, progress: Progress | None = None) -> Histogram:
    """The exponents of a run's weights, and of what it computes of the beginning of its validation text.

    progress: called with (computed, all) tokens on the way.
    """
    device = next(run.model.parameters()).device
    size, places, batches = validation(run, tokens)
    targets = sum(batch.tokens(1) for batch, _ in batches)
    done = 0

    def tell(part: Part) -> None:
        nonlocal done
        done += int((part.targets != PADDING).sum())
        if progress:
            progress(done, targets)

    wanted = (
        Batch([Part(each.inputs, each.targets, each.share) for each in batch.pieces(places, device, 1)], part)
        for batch, part in batches
    )
    with run.precision().autocast():
        found = exponents(run.model, wanted, label_smoothing=run.config.train.label_smoothing, progress=tell)
    return Histogram(found, targets, size)


def validation(run: Run, tokens: int) -> tuple[int, int, list[tuple[Learnable, float]]]:
    """About so many tokens from the beginning of a run's validation text, in batches as large as the run's own.

    That size in positions, how many positions are computed at once, and the batches: each with the part of that size
    that it is, since the last one, or the only one, may be smaller.
    """
    config, device = run.config, next(run.model.parameters()).device
    context = config.model.context_length
    if isinstance(config, RunConfig):
        size = config.train.batch_size * context
        ids = validation_ids(open_data(config, run.directory, World()), tokens)
        rows = rows_to_score(config.model, device)
        windows = evaluation_windows(ids, batch_size=config.train.batch_size, context_length=context)
        return size, rows * context, [(batch, batch.inputs.numel() / size) for batch in windows]
    size = config.train.batch_tokens
    pairs = reopen(config, run.directory, moved=False).pairs("validation")
    batches = list(evaluation_pairs(pairs, min(tokens, size), context))
    whole = tokens >= size and len(batches) > 1  # as training cuts them, and as large as they then come
    found: list[tuple[Learnable, float]] = []
    for batch in batches:
        found.append((batch, 1.0 if whole else len(batch.source) * batch.longest / size))
        tokens -= batch.whole
        if tokens <= 0:
            break
    return size, evaluated_at_once(run.transformer), found
