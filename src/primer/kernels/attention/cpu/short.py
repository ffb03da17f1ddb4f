"""Few weights, or few queries, on a CPU: the table of weights is written down, and kept for the backward pass.

Such a table is about as large as the keys that it is made of, or takes a few megabytes in all, or spares the calls that
each of many short documents would take; and a few large products are faster than many small tiles.
The queries of heads that share a key head are rows of one matrix, so that no key is copied.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from primer.kernels.attention.cpu.long import Rule
from primer.kernels.attention.cpu.plan import Sight
from primer.kernels.attention.visible import spans, visible_mask
from primer.kernels.random import KeptTiles, Words


class Hidden(NamedTuple):
    """What a query must not look at, in a table of (B, H, T, S)."""

    rule: Rule
    seen: Bool[Tensor, "B S"] | None
    document_ids: Int[Tensor, "B S"] | None

    def hide(self, scores: Float[Tensor, "B H T S"]) -> None:
        """Add −∞ there."""
        T, S = scores.shape[2:]
        if self.document_ids is None:
            Sight.of(T, S, self.rule.causal, self.rule.window).hide(scores, 0, 0)
        else:
            scores.add_(hiding(self.visible(T, S), scores))
        if self.seen is not None:
            scores.add_(hiding(self.seen[:, None, None], scores))

    def blind(self, T: int, S: int) -> Bool[Tensor, "_ 1 T 1"]:
        """Queries that see no key."""
        visible = self.visible(T, S)
        return ~(visible if self.seen is None else visible & self.seen[:, None, None]).any(-1, keepdim=True)

    def visible(self, T: int, S: int) -> Bool[Tensor, "_ 1 T S"]:
        ids = self.document_ids
        return visible_mask(
            spans(T, S, causal=self.rule.causal, window=self.rule.window, document_ids=ids, device="cpu"), S
        )[:, None]


def hiding(visible: Bool[Tensor, "..."], like: Tensor) -> Float[Tensor, "..."]:
    return like.new_zeros(visible.shape).masked_fill_(~visible, -torch.inf)


def attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    hidden: Hidden,
    seed: int,
    *,
    want_lse: bool,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T"] | None]:
    """`reference.attention`; without L where nobody wants it, since it takes a tenth of the time."""
    (B, H, T, D), (_, Hkv, S, _), kept = q.shape, k.shape, None
    if hidden.rule.dropout:
        tiles, words = KeptTiles(seed, B * H, T, hidden.rule.dropout), Words()
        kept = tiles.write(q.new_empty(B * H, T, S), tiles.rows, tiles.thresholds, 0, words)
        kept = kept.mul_(1 / (1 - hidden.rule.dropout)).view(B * Hkv, H // Hkv * T, S)
    given = (
        q.reshape(B * Hkv, H // Hkv * T, D),
        k.flatten(0, 1),
        v.flatten(0, 1),
        kept,
        hidden,
        (B, H, T, S),
        want_lse,
    )
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        out, lse = ShortAttention.apply(*given)  # type: ignore[no-untyped-call]
    else:
        out, lse, *_ = forward(*given)
    return out.view(B, H, T, v.shape[3]), None if lse is None else lse.view(B, H, T)


def forward(
    q: Float[Tensor, "N R D"],
    k: Float[Tensor, "N S D"],
    v: Float[Tensor, "N S Dv"],
    kept: Float[Tensor, "N R S"] | None,
    hidden: Hidden,
    shape: tuple[int, int, int, int],
    want_lse: bool,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """(softmax(S) ∘ M / (1 − p))·V, L if wanted, softmax(S), and the tanh of a soft cap.

    kept: M / (1 − p), dropout's mask. shape: the table's, (B, H, T, S), of which N = B·Hkv and R = H/Hkv·T are views.
    """
    rule, s = hidden.rule, q.new_empty(*q.shape[:2], k.shape[1])
    torch.baddbmm(s, q, k.transpose(1, 2), beta=0, alpha=rule.scale / (rule.soft_cap or 1.0), out=s)
    bent = s.tanh_() if rule.soft_cap else None
    s = s if bent is None else bent * rule.soft_cap
    hidden.hide(s.view(shape))
    largest = s.amax(-1) if want_lse else None
    p, blind = torch.softmax(s, -1, out=s), None
    if (hidden.seen is not None or shape[2] > shape[3]) and bool(p[..., 0].isnan().any()):
        blind = hidden.blind(*shape[2:])
        p.view(shape).masked_fill_(blind, 0)
    lse = None
    if largest is not None:  # the largest weight is exp(largest score − L)
        lse = largest.sub_(p.amax(-1).log_())
        if blind is not None:
            lse.view(shape[:3]).masked_fill_(blind[..., 0], -torch.inf)
    return (p if kept is None else p * kept) @ v, lse, p, bent


class ShortAttention(torch.autograd.Function):
    """`forward` and its gradient."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, kept: Tensor | None, hidden: Hidden, *how: Any
    ) -> tuple[Tensor, Tensor | None]:
        out, lse, p, bent = forward(q, k, v, kept, hidden, *how)
        ctx.save_for_backward(q, k, v, kept, p, bent)
        ctx.scale = hidden.rule.scale
        if lse is not None:
            ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, kept, p, bent = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            dp = grads[0] @ v.transpose(1, 2)
            if kept is not None:
                dp.mul_(kept)
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)  # P∘(dP − rowsum(dP∘P))
            if bent is not None:
                ds = torch.ops.aten.tanh_backward(ds, bent)
            dq, dk = (ds @ k).mul_(ctx.scale), (ds.transpose(1, 2) @ q).mul_(ctx.scale)
            dv = (p if kept is None else p * kept).transpose(1, 2) @ grads[0]
        return dq, dk, dv, None, None, None, None
