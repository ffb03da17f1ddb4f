"""From the logits of the next token to the next token: a chain of small functions.

Each takes logits and returns logits, with −∞ where a token is out of the question.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from primer.errors import DataError
from primer.generation.config import Sampling

__all__ = ["Sampling", "choose", "distribution"]


def choose(
    logits: Float[Tensor, "B V"],
    sampling: Sampling,
    generator: torch.Generator | None = None,
    previous: Int[Tensor, "B S"] | None = None,
) -> Int[Tensor, " B"]:
    """One token a row. `previous` are the tokens that the repetition penalty counts as repeated.

    Raises DataError where there is nothing to choose by: drawing from NaN would give id −2⁶³ or end in a
    crash.
    """
    if not logits.amax(dim=-1).isfinite().all():  # the maximum is NaN as soon as one logit is
        raise DataError(
            "the model's logits are not finite", hint="an earlier checkpoint: these weights have diverged"
        )
    if sampling.temperature == 0:
        return penalised(logits, sampling, previous).argmax(dim=-1)
    probabilities = distribution(logits, sampling, previous)
    return torch.multinomial(probabilities, num_samples=1, generator=generator).squeeze(-1)


def distribution(
    logits: Float[Tensor, "B V"], sampling: Sampling, previous: Int[Tensor, "B S"] | None = None
) -> Float[Tensor, "B V"]:
    """The probabilities that `choose` draws from, after every filter (temperature > 0)."""
    logits = penalised(logits, sampling, previous)
    if sampling.temperature != 1:
        # Less the maximum, which changes no probability, so that the quotient stays finite.
        logits = (logits - logits.amax(dim=-1, keepdim=True)) / max(sampling.temperature, 1e-30)
    if sampling.top_k:
        logits = top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = top_p(logits, sampling.top_p)
    if sampling.min_p > 0:
        logits = min_p(logits, sampling.min_p)
    return logits.softmax(dim=-1)


def penalised(
    logits: Float[Tensor, "B V"], sampling: Sampling, previous: Int[Tensor, "B S"] | None
) -> Float[Tensor, "B V"]:
    """Float32 logits, those of the `previous` tokens moved towards the unlikely."""
    logits = logits.float() if logits.dtype.itemsize < 4 else logits
    if sampling.repetition_penalty == 1 or previous is None:
        return logits
    seen = logits.gather(1, previous)
    seen = torch.where(seen > 0, seen / sampling.repetition_penalty, seen * sampling.repetition_penalty)
    return logits.scatter(1, previous, seen)


def top_k(logits: Float[Tensor, "B V"], k: int) -> Float[Tensor, "B V"]:
    """Keep the k largest of each row."""
    smallest_kept = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < smallest_kept, -torch.inf)


def top_p(logits: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """Keep the smallest set of likeliest tokens whose probabilities reach p together; never an empty one."""
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities  # what the likelier tokens have together
    before[:, 0] = 0  # the likeliest stays, however the sum was rounded
    return torch.full_like(logits, -torch.inf).scatter(1, order, ordered.masked_fill(before >= p, -torch.inf))


def min_p(logits: Float[Tensor, "B V"], share: float) -> Float[Tensor, "B V"]:
    """Keep what is at least `share` times as likely as the likeliest."""
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < share * probabilities.amax(dim=-1, keepdim=True), -torch.inf)
