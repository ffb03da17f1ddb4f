"""What the released GPT-2 (124M) gets on the tasks, by those who measured it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measurement of one model on one task, zero-shot; what was not reported is None."""

    task: str
    source: str
    accuracy: float | None = None
    by_character: float | None = None
    by_token: float | None = None
    perplexity: float | None = None


_NO_LABEL = (
    "github.com/karpathy/llm.c, dev/data/hellaswag.py (as build-nanogpt's), without the activity in front"
)
_CFG = "Sanchez et al. 2024, github.com/Vermeille/lm-evaluation-harness-cfg, plots/gpt2.py, γ = 1"

GPT2_124M = (
    Figure(
        "hellaswag",
        _NO_LABEL,
        0.2859,
        None,
        0.2955,
    ),
    Figure("hellaswag", _CFG, 0.2892, 0.3114),
    Figure("arc_easy", _CFG, 0.4381, 0.3948),
    Figure("arc_challenge", _CFG, 0.1903, 0.2270),
    Figure("piqa", _CFG, 0.6289, 0.6251),
    Figure("winogrande", _CFG, 0.5162),
    Figure(
        "lambada_openai",
        "github.com/EleutherAI/lm-evaluation-harness, issue 2159",
        0.3256,
        perplexity=40.0554,
    ),
)
"""All but the first by lm-evaluation-harness, which puts the same questions in the same way."""


def known(task: str) -> list[Figure]:
    """The figures of one task."""
    return [figure for figure in GPT2_124M if figure.task == task]
