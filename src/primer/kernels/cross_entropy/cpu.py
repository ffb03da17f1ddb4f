"""The loss on a CPU, a chunk of positions at a time.

Memory that is written, normalised and read again costs a CPU more time than the product that fills it. So the logits
live for a chunk, in which loss and gradient are both computed.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

CACHED = 1 << 21
"""Logits that a CPU's caches hold, about."""
LEAST_ROWS = 512
"""Positions a chunk, even where the caches are too small: a product of fewer is slow."""


class LinearCrossEntropy(torch.autograd.Function):
    """Over n positions, with z = cap(W·hᵀ + b) and y the target distribution, ε of it spread over all V tokens:

        loss = Σ (log Σ_v e^z_v − Σ_v y_v·z_v) / n        dz = (softmax(z) − y) / n

    z is kept as (V, positions): a product with as many rows as the vocabulary is faster than one with as many
    columns, by a third for 50,257. It is touched as seldom as can be: the factor of a column, 1 / Σ e^z, is put on h
    and dh instead, which are narrow, and what ε / V of every token amounts to is known from the sums of W and h.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        label_smoothing: float,
        soft_cap: float,
        chunk: int,
        gradient: bool,
    ) -> Tensor:
        n, V = len(h), len(weight)
        total = h.new_zeros(())
        dh, dw = torch.empty_like(h), torch.empty_like(weight)
        db = None if bias is None else torch.zeros_like(bias)
        rows = max(1, min(chunk // V, LEAST_ROWS if V * LEAST_ROWS > CACHED else CACHED // V))
        share = label_smoothing / V
        logits = h.new_empty(V * min(rows, n))
        for start in range(0, n, rows):
            here = slice(start, start + rows)
            h_chunk, t = h[here], targets[here]
            z = torch.mm(weight, h_chunk.t(), out=logits[: V * len(t)].view(V, len(t)))
            if bias is not None:
                z += bias[:, None]
            slope = None
            if soft_cap:
                z.div_(soft_cap).tanh_()
                slope = 1 - z.square()
                z.mul_(soft_cap)
            wanted = t, torch.arange(len(t), device=t.device)
            total -= (1 - label_smoothing) * z[wanted].sum()
            if soft_cap and share:
                total -= share * z.sum()
            highest = z.amax(0)
            e = z.sub_(highest).exp_()
            sums = e.sum(0)
            total += (highest + sums.log()).sum()
            if not gradient:
                continue
            # From here on, e becomes n·sums·dz.
            e[wanted] -= (1 - label_smoothing) * sums
            if slope is not None:
                if share:
                    e -= share * sums
                e *= slope
            factor = 1 / (n * sums[:, None])
            torch.mm(e.t(), weight, out=dh[here]).mul_(factor)
            dw.addmm_(e, h_chunk * factor, beta=min(start, 1))  # the first one overwrites
            if db is not None:
                db += (e @ factor)[:, 0]
        if share and not soft_cap:  # what every token has of y, for all positions at once
            w_sum, h_sum = weight.sum(0), h.sum(0)
            total -= share * (w_sum @ h_sum if bias is None else w_sum @ h_sum + n * bias.sum())
            if gradient:
                dh -= share / n * w_sum
                dw -= share / n * h_sum
                if db is not None:
                    db -= share
        ctx.gradients = dh, dw, db
        return total / n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.gradients
        del ctx.gradients  # given away: whoever gets them may add to them where they lie
        if grads[0] != 1:
            gradients = tuple(None if each is None else each.mul_(grads[0]) for each in gradients)
        return (*gradients, None, None, None, None, None)


def linear_cross_entropy(
    h: Float[Tensor, "N C"],
    weight: Float[Tensor, "V C"],
    targets: Int[Tensor, " N"],
    *,
    bias: Float[Tensor, " V"] | None = None,
    label_smoothing: float = 0.0,
    soft_cap: float = 0.0,
    chunk: int,
) -> Float[Tensor, ""]:
    """`reference.linear_cross_entropy` with so many logits in memory at once; differentiable once, and not twice."""
    gradient = torch.is_grad_enabled() and (h.requires_grad or weight.requires_grad)
    loss: Tensor = LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        h, weight, bias, targets, label_smoothing, soft_cap, chunk, gradient
    )
    return loss
