"""What is measured of finished runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from primer.experiments.experiment import Measure

if TYPE_CHECKING:
    from primer.evals.likelihood import Progress
    from primer.recipes.loaded import Run


def _last(run: Run, key: str) -> float:
    """What its last evaluation has found; NaN where it found nothing, as of a model that has diverged."""
    rows = [row for row in run.metrics() if "val_loss" in row]
    return float(rows[-1].get(key, math.nan)) if rows else math.nan


def _bleu(run: Run, progress: Progress) -> float:
    from primer.recipes.pair_scores import score_pairs_of

    return float(score_pairs_of(run, "validation", progress=progress)["bleu"])


LOSS = Measure("loss", "validation loss, nats a token", lambda run, progress: _last(run, "val_loss"))
PERPLEXITY = Measure(
    "perplexity",
    "validation perplexity, a token; differences are of its logarithm: nats a token",
    lambda run, progress: _last(run, "val_perplexity"),
    logarithmic=True,
    digits=2,
)
EXACT = Measure(
    "exact",
    "share of validation pairs (the first train.evaluate_pairs) whose greedy translation is the reference",
    lambda run, progress: _last(run, "val_exact"),
    better="higher",
)
BLEU = Measure(
    "bleu",
    "BLEU of the validation pairs, by sacrebleu, with the beam of [translate]",
    _bleu,
    better="higher",
    digits=1,
    finer=2,
)
