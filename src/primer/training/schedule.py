"""The learning rate over a run: a factor of its peak, as a pure function of the step.

No state, so nothing to save: a resumed run asks for its step and gets the same factor. Steps count from 0.

    factor
      1 ┤   ╭──╮            warm-up: a line from 1/warmup (not from 0: the first step should do something)
        │  ╱    ╲           then the shape
        │ ╱      ╲___ final
        └─────────────→ step
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from primer.training.config import ScheduleConfig


def schedule(config: ScheduleConfig, steps: int) -> Callable[[int], float]:
    """The function step → factor for a run of `steps` steps."""
    shapes: dict[str, Callable[[int], float]] = {
        "constant": partial(constant, warmup=config.warmup),
        "cosine": partial(cosine, steps=steps, warmup=config.warmup, final=config.final),
        "linear": partial(linear, steps=steps, warmup=config.warmup, final=config.final),
        "wsd": partial(wsd, steps=steps, warmup=config.warmup, final=config.final, decay=config.decay),
        "inverse_sqrt": partial(inverse_sqrt, warmup=config.warmup),
    }
    return shapes[config.shape]


def constant(step: int, *, warmup: int = 0) -> float:
    """1 after the warm-up."""
    return _warmup(step, warmup)


def cosine(step: int, *, steps: int, warmup: int = 0, final: float = 0.0) -> float:
    """Half a cosine from 1 down to `final` at the last step (Loshchilov & Hutter 2017, eq. 5, without
    restarts).
    """
    half_wave = (1 + math.cos(math.pi * _progress(step, warmup, steps))) / 2
    return min(_warmup(step, warmup), final + (1 - final) * half_wave)


def linear(step: int, *, steps: int, warmup: int = 0, final: float = 0.0) -> float:
    """A line from 1 down to `final` at the last step."""
    return min(_warmup(step, warmup), 1 - (1 - final) * _progress(step, warmup, steps))


def wsd(step: int, *, steps: int, warmup: int = 0, final: float = 0.0, decay: float = 0.2) -> float:
    """Warm-up, stable, decay: 1, and over the last share `decay` of all steps a line down to `final`.

    (Hu et al. 2024, §4; Hägele et al. 2024.) Up to the fall nothing depends on the run's length, so a run
    can be made longer, or be ended from any of its checkpoints.
    """
    start = max(warmup, steps - 1 - round(decay * steps))
    return min(_warmup(step, warmup), 1 - (1 - final) * _progress(step, start, steps))


def inverse_sqrt(step: int, *, warmup: int = 0) -> float:
    """√(warmup / step): min(step^-½, step · warmup^-3/2) of Vaswani et al. 2017, eq. 3, with its peak
    at 1.
    """
    return min(_warmup(step, warmup), math.sqrt(max(warmup, 1) / (step + 1)))


def _warmup(step: int, warmup: int) -> float:
    """(step + 1) / warmup until it reaches 1."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def _progress(step: int, start: int, steps: int) -> float:
    """From 0 at step `start` to 1 at the last step, and 1 beyond it."""
    return min(1.0, max(0.0, (step - start) / max(1, steps - 1 - start)))
