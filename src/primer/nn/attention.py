"""Multi-head attention: project, attend in each head, put the heads side by side, project back."""

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from primer.kernels.attention import Implementation, attention
from primer.kernels.attention.reference import attention_scores, repeat_heads, softmax
from primer.nn.cache import LayerCache
from primer.nn.dropout import Dropout, dropout
from primer.nn.norm import NormType, make_norm
from primer.nn.positions import Rotary
from primer.nn.probe import Probe

Memory = tuple[Float[Tensor, "B H S D"], Float[Tensor, "B H S Dv"]]
"""Keys and values of what was read."""


class Heads(nn.Module):
    """What self-attention and cross-attention share: queries, keys and values in, the sublayer's output out.

    MultiHead = Concat(head_1 … head_H)·W^O, head_i = Attention(Q·W_i^Q, K·W_i^K, V·W_i^V): Vaswani et al. 2017, §3.2.2.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        causal: bool,
        bias: bool,
        output: bool,
        softmax_scale: float | None,
        pattern_dropout: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.n_heads, self.d_head = n_heads, d_model // n_heads
        self.causal = causal
        self.softmax_scale = softmax_scale
        self.pattern_dropout = pattern_dropout
        self.implementation: Implementation = "auto"
        self.output = nn.Linear(d_model, d_model, bias=bias) if output else None
        self.dropout = Dropout(dropout)
        self.q, self.k, self.v, self.z = Probe(), Probe(), Probe(), Probe()
        self.attn_scores, self.pattern, self.attn_out = Probe(), Probe(), Probe()

    def merge(
        self,
        q: Float[Tensor, "B H T D"],
        k: Float[Tensor, "B Hkv S D"],
        v: Float[Tensor, "B Hkv S Dv"],
        seen: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Attend in every head, put the heads side by side, project."""
        z = self.z(self.attend(q, k, v, seen))  # (B, H, T, D)
        heads = z.transpose(1, 2).flatten(2)  # side by side
        return self.attn_out(self.dropout(self.output(heads) if self.output else heads))

    def attend(
        self,
        q: Float[Tensor, "B H T D"],
        k: Float[Tensor, "B Hkv S D"],
        v: Float[Tensor, "B Hkv S Dv"],
        seen: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B H T Dv"]:
        """The operator of `kernels/attention`, or its written-out form while someone looks at the pattern."""
        p = self.pattern_dropout if self.training else 0.0
        how: dict[str, Any] = {"causal": self.causal, "softmax_scale": self.softmax_scale, "seen": seen}
        if not (self.attn_scores.heard or self.pattern.heard):
            trains_by = self.implementation if self.training else "auto"
            return attention(q, k, v, dropout=p, implementation=trains_by, **how)
        scores = self.attn_scores(attention_scores(q, k, **how))
        pattern = self.pattern(softmax(scores))  # (B, H, T, S)
        return (dropout(pattern, p) if p else pattern) @ repeat_heads(v, self.n_heads)


class MultiHeadAttention(Heads):
    """Self-attention: queries, keys and values are projections of the same x.

    Vaswani et al. 2017, §3.2.2; `causal` masks it so that no position sees a later one (§3.2.3). The 3·H projections
    are one matrix, `qkv`: rows for the queries of every head, then the keys, then the values.

    n_kv_heads: fewer key and value heads, shared by groups of query heads (Ainslie et al. 2023).
    d_k: width of queries and keys in each head, where it is not d_model / n_heads as that of values.
    softmax_scale: what scores are multiplied by; d_k^-½ unless given.
    rotary: turns queries and keys by their position, once for all layers of a model.
    output: False leaves W^O out, as the lecture's script does.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        d_k: int | None = None,
        causal: bool = True,
        qkv_bias: bool = False,
        bias: bool = False,
        output: bool = True,
        softmax_scale: float | None = None,
        rotary: Rotary | None = None,
        qk_norm: NormType | None = None,
        pattern_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            d_model,
            n_heads,
            causal=causal,
            bias=bias,
            output=output,
            softmax_scale=softmax_scale,
            pattern_dropout=pattern_dropout,
            dropout=dropout,
        )
        self.n_kv_heads = n_kv_heads or n_heads
        self.d_k = d_k or self.d_head
        self.rotary = rotary
        self.widths = (n_heads * self.d_k, self.n_kv_heads * self.d_k, self.n_kv_heads * self.d_head)
        self.qkv = nn.Linear(d_model, sum(self.widths), bias=qkv_bias)
        self.qk_norm = make_norm(qk_norm, self.d_k, gain=False, bias=False) if qk_norm else None

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        cache: LayerCache | None = None,
        seen: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        q, k, v = self.project(x, start=cache.length if cache else 0)
        if cache:
            k, v = cache.append(k, v)
        return self.merge(q, k, v, seen)

    def project(
        self, x: Float[Tensor, "B T C"], start: int = 0
    ) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B Hkv T D"], Float[Tensor, "B Hkv T Dv"]]:
        """Queries, keys and values of every head; the first token stands at position `start`."""
        qkv = self.qkv(x)
        if self.qk_norm or self.rotary:  # on queries and keys at once
            qk, v = qkv.split([sum(self.widths[:2]), self.widths[2]], dim=-1)
            qk = qk.unflatten(-1, (-1, self.d_k))  # (B, T, heads, D)
            if self.qk_norm:
                qk = self.qk_norm(qk)
            if self.rotary:
                qk = self.rotary(qk, start)
            q, k = qk.split([self.n_heads, self.n_kv_heads], dim=2)
            q, k, v = (each.transpose(1, 2) for each in (q, k, v.unflatten(-1, (-1, self.d_head))))
        else:
            Hkv = self.n_kv_heads
            q, k, v = split_heads(qkv, (self.n_heads, self.d_k), (Hkv, self.d_k), (Hkv, self.d_head))
        return self.q(q), self.k(k), self.v(v)


class CrossAttention(Heads):
    """Queries from the decoder, keys and values from the encoder's output: Vaswani et al. 2017, §3.2.3, first point.

    Every position of the decoder may look at every token of the source. The keys and values do not depend on the
    decoder, so whoever decodes token by token computes them once (`remember`).
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        d_k: int | None = None,
        qkv_bias: bool = False,
        bias: bool = False,
        pattern_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            d_model,
            n_heads,
            causal=False,
            bias=bias,
            output=True,
            softmax_scale=None,
            pattern_dropout=pattern_dropout,
            dropout=dropout,
        )
        self.d_k = d_k or self.d_head
        self.queries = nn.Linear(d_model, n_heads * self.d_k, bias=qkv_bias)
        self.keys_values = nn.Linear(d_model, n_heads * (self.d_k + self.d_head), bias=qkv_bias)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        memory: Memory,
        seen: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        (q,) = split_heads(self.queries(x), (self.n_heads, self.d_k))
        return self.merge(self.q(q), *memory, seen)

    def remember(self, encoded: Float[Tensor, "B S C"]) -> Memory:
        """Keys and values of the source."""
        k, v = split_heads(self.keys_values(encoded), (self.n_heads, self.d_k), (self.n_heads, self.d_head))
        return self.k(k), self.v(v)


def train_by(model: nn.Module, implementation: Implementation) -> None:
    """Let every head of a model be trained by this implementation of attention. What it computes is the same."""
    for each in model.modules():
        if isinstance(each, Heads):
            each.implementation = implementation


def split_heads(x: Float[Tensor, "B T C"], *parts: tuple[int, int]) -> tuple[Float[Tensor, "B _ T _"], ...]:
    """What lies side by side in x: so many heads, each so wide; and so on for each of `parts`.

    Heads of one width are told apart before they are split: then autograd writes their gradients down once, not twice.
    """
    heads, widths = zip(*parts, strict=True)
    if len(set(widths)) == 1:
        pieces = x.unflatten(-1, (-1, widths[0])).split(list(heads), dim=2)
    else:
        pieces = tuple(
            piece.unflatten(-1, part)
            for piece, part in zip(x.split([h * width for h, width in parts], dim=-1), parts, strict=True)
        )
    return tuple(piece.transpose(1, 2) for piece in pieces)  # (B, heads, T, width) each
