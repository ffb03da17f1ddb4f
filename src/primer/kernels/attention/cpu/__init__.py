"""Attention on a CPU, where torch's fused kernel is at its worst: masks, dropout, shared keys, short sequences.

That kernel multiplies as fast as the machine can, so what asks for nothing else goes there. But with a mask it computes
all T × S weights, however few are visible; with dropout the library writes them down several times instead; and for a
batch of sentences it takes half as long again as two products. Those go to `long`, which cuts the table of weights into
tiles and leaves out what nobody sees, or, where there are few, to `short`, which writes it down once.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from primer.errors import UsageError
from primer.kernels.attention.choice import Kind
from primer.kernels.attention.cpu import long, short
from primer.kernels.attention.cpu.long import Rule
from primer.kernels.attention.cpu.plan import pieces_of
from primer.kernels.attention.cpu.short import Hidden

SHORT = 64 * 64
"""Weights of a head that are written down of many heads even where torch's kernel could do what is asked."""
SMALL = 96 * 96
"""Weights of a head that are written down rather than cut into tiles, of however many heads."""
WRITTEN = 1 << 20
"""Weights of all heads together, the same: 4 MB, that are kept for the backward pass, and dropout's mask as many."""
CUT_UP = 256 * 256
"""Weights of a head, the same where its documents are so short that each is hardly a tile."""
PIECE = 1 << 15
"""Weights that torch's kernel computes in the time that a document takes here beside its weights."""
FEW_QUERIES = 16
"""Queries whose weights take less memory than the keys do."""
MANY_KEYS = 4096
"""From so many on, a thread's start costs less than its share of the keys."""
ONE_BLOCK = 32
"""Queries that torch's kernel gives to one thread."""
FEW_HEADS = 32
"""Up to so many, one call of the library's kernel takes less time than the calls of several products."""


def attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    *,
    causal: bool = True,
    window: int | None = None,
    document_ids: Int[Tensor, "B S"] | None = None,
    seen: Bool[Tensor, "B S"] | None = None,
    softmax_scale: float | None = None,
    soft_cap: float = 0.0,
    dropout: float = 0.0,
    dropout_seed: int | Int[Tensor, ""] = 0,
    return_lse: bool = True,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T"] | None]:
    """`reference.attention`, down to the bits of dropout.

    dropout_seed: may be a tensor, since torch.compile would have to stop for a number.
    return_lse: if False, the second may be None, where that saves time.
    """
    if q.device.type != "cpu":
        raise UsageError(
            "this implementation computes on a CPU", f"q is on {q.device}", "implementation='auto'"
        )
    D, T, S = q.shape[3], q.shape[2], k.shape[2]
    past = 0 if window is None or dropout else S - T - window + 1
    if past > 0:  # keys that no query sees; dropout would count them
        k, v, S = k[:, :, past:], v[:, :, past:], S - past
        seen, document_ids = (x if x is None else x[:, past:] for x in (seen, document_ids))
    rule = Rule(
        causal=causal and T > 1,  # a single query is the last position
        window=None if window is None or window >= max(T, S) else window,
        scale=D**-0.5 if softmax_scale is None else softmax_scale,
        soft_cap=soft_cap,
        dropout=dropout,
    )
    if (
        not torch.is_autocast_enabled("cpu") or q.dtype == torch.float64
    ):  # which torch's autocast leaves alone
        return by_shape(q, k, v, Hidden(rule, seen, document_ids), dropout_seed, return_lse)
    q, k, v = (x.to(torch.get_autocast_dtype("cpu")) for x in (q, k, v))
    with torch.autocast("cpu", enabled=False):  # every product below would be in its dtype
        return by_shape(q, k, v, Hidden(rule, seen, document_ids), dropout_seed, return_lse)


def suits(q: Tensor, k: Tensor, kind: Kind, document_ids: Tensor | None) -> bool:
    """Whether this is faster than the library's path, which `auto` takes else."""
    table = q.shape[2] * k.shape[2]
    if table <= SHORT and q.dtype.itemsize >= 4:
        return True
    if not (kind.window or kind.soft_cap or kind.dropout):
        if cut_up(document_ids, q.shape[0] * q.shape[1] * table):
            return False
        if kind.padding and not (kind.causal or kind.documents):  # no tile can be left out
            return False
    return not kind.plain or (kind.group > 1 and q.shape[2] <= FEW_QUERIES)


def cut_up(document_ids: Tensor | None, weights: int) -> bool:
    """Whether documents are so short that to begin each takes longer than all weights do."""
    return document_ids is not None and pieces_of(document_ids) * PIECE > weights


def written(weights: int, table: int, document_ids: Tensor | None) -> bool:
    """Whether all weights, of which each head has a table, take less time written down than in tiles."""
    return table <= SMALL or weights <= WRITTEN or (table <= CUT_UP and cut_up(document_ids, weights))


def by_shape(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    hidden: Hidden,
    seed: int | Int[Tensor, ""],
    want_lse: bool,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T"] | None]:
    """By the library's kernel, as a table that is written down, or in tiles."""
    (B, H, T, D), S, dtype, (rule, seen, document_ids) = q.shape, k.shape[2], q.dtype, hidden
    plain = not (rule.window or rule.soft_cap or rule.dropout) and seen is None and document_ids is None
    sentences = T * S <= SHORT and T > 1 and B * H > FEW_HEADS and not torch.compiler.is_compiling()
    if plain and v.shape[3] == D and (T == S or not rule.causal) and T * S > 0 and not sentences:
        return fused(q, k, v, rule)
    if dtype.itemsize < 4:  # few CPUs are fast at products in half precision
        q, k, v = q.float(), k.float(), v.float()
    down = T <= FEW_QUERIES or written(B * H * T * S, T * S, document_ids)
    if down and T * S > 0 and not torch.compiler.is_compiling():
        out, lse = short.attend(q, k, v, hidden, int(seed), want_lse=want_lse)
        return out.to(dtype), lse
    drawn = None
    if rule.dropout:  # `full` leaves a compiler a number that may change, and `as_tensor` a constant
        drawn = seed if isinstance(seed, Tensor) else torch.full((), seed & 0xFFFFFFFF, device=q.device)
    out, lse = long.LongAttention.apply(q, k, v, seen, document_ids, drawn, *rule)  # type: ignore[no-untyped-call]
    return out.to(dtype), lse


def fused(
    q: Float[Tensor, "B H T D"], k: Float[Tensor, "B Hkv S D"], v: Float[Tensor, "B Hkv S D"], rule: Rule
) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B H T"]]:
    """The kernel behind `scaled_dot_product_attention`, which tells L, too. Shared keys are read where they are."""
    (B, H, T, D), Hkv = q.shape, k.shape[1]
    G = H // Hkv
    if G > 1 and rule.causal:
        q = q.reshape(B * Hkv, G, T, D)
        k, v = (x.flatten(0, 1)[:, None].expand(-1, G, -1, -1) for x in (k, v))
    elif G > 1:  # a group's queries are rows of one matrix
        q = q.reshape(B, Hkv, G * T, D)
    parts = 1 if rule.causal or torch.compiler.is_compiling() else parts_of_keys(q, k)
    if parts > 1:
        out, lse = in_parts(q[0], k[0], v[0], rule.scale, parts)
    else:
        out, lse = by_torch(q, k, v, scale=rule.scale, causal=rule.causal)
    return out.reshape(B, H, T, v.shape[3]), lse.reshape(B, H, T)


def parts_of_keys(q: Float[Tensor, "B H R D"], k: Float[Tensor, "B H S D"]) -> int:
    """More than one where one sequence is decoded, of many keys, and threads would have nothing to do."""
    trained = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    if trained or len(q) > 1 or q.shape[2] > ONE_BLOCK or k.shape[2] < MANY_KEYS:
        return 1
    return -(-torch.get_num_threads() // q.shape[1])


def in_parts(
    q: Float[Tensor, "H R D"],
    k: Float[Tensor, "H S D"],
    v: Float[Tensor, "H S D"],
    scale: float,
    parts: int,
) -> tuple[Float[Tensor, "H R D"], Float[Tensor, "H R"]]:
    """The keys in parts, each for another thread: torch's kernel shares heads and queries, and there are few of both.

    Each part's output is a mean of its values, which exp(L_part − L) weighs (flash decoding: Dao et al. 2023).
    """
    S = k.shape[1]
    even = S - S % parts
    cut = (x[:, :even].unflatten(1, (parts, -1)) for x in (k, v))  # (H, parts, S // parts, D), where they are
    out, lse = by_torch(q[:, None].expand(-1, parts, -1, -1), *cut, scale=scale)
    if even < S:
        found = by_torch(q[:, None], k[:, None, even:], v[:, None, even:], scale=scale)
        out, lse = (torch.cat(both, 1) for both in zip((out, lse), found, strict=True))
    total = lse.logsumexp(1, keepdim=True)  # (H, 1, R)
    return (out * (lse - total).exp()[..., None]).sum(1).to(q.dtype), total[:, 0]


def by_torch(
    q: Float[Tensor, "B H R D"],
    k: Float[Tensor, "B H S D"],
    v: Float[Tensor, "B H S D"],
    *,
    scale: float,
    causal: bool = False,
) -> tuple[Float[Tensor, "B H R D"], Float[Tensor, "B H R"]]:
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    found: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, is_causal=causal, scale=scale
    )
    return found
