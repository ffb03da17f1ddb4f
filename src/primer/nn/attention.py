"""Multi-head attention: project, attend in each head, put the heads side by side, project back."""

from jaxtyping import Float
from torch import Tensor, nn

from primer.kernels.attention import attention
from primer.kernels.attention.reference import attention_scores, repeat_heads
from primer.nn.cache import LayerCache
from primer.nn.dropout import Dropout, dropout
from primer.nn.norm import NormType, make_norm
from primer.nn.positions import Rotary
from primer.nn.probe import Probe


class MultiHeadAttention(nn.Module):
    """MultiHead(x) = Concat(head_1 … head_H)·W^O, head_i = Attention(x·W_i^Q, x·W_i^K, x·W_i^V).

    Vaswani et al. 2017, §3.2.2, masked so that no position sees a later one (§3.2.3). The 3·H projections are
    one matrix, `qkv`: rows for the queries of every head, then the keys, then the values.

    n_kv_heads: fewer key and value heads, shared by groups of query heads (Ainslie et al. 2023).
    softmax_scale: what scores are multiplied by; D^-½ unless given.
    rotary: turns queries and keys by their position, once for all layers of a model.
    output: False leaves W^O out, as the lecture's script does.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        qkv_bias: bool = False,
        bias: bool = False,
        output: bool = True,
        softmax_scale: float | None = None,
        rotary: Rotary | None = None,
        qk_norm: NormType | None = None,
        pattern_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = n_heads, n_kv_heads or n_heads
        self.d_head = d_model // n_heads
        self.softmax_scale = softmax_scale
        self.pattern_dropout = pattern_dropout
        self.rotary = rotary
        self.qkv = nn.Linear(d_model, (n_heads + 2 * self.n_kv_heads) * self.d_head, bias=qkv_bias)
        self.qk_norm = make_norm(qk_norm, self.d_head, gain=False, bias=False) if qk_norm else None
        self.output = nn.Linear(d_model, d_model, bias=bias) if output else None
        self.dropout = Dropout(dropout)
        self.q, self.k, self.v, self.z = Probe(), Probe(), Probe(), Probe()
        self.attn_scores, self.pattern, self.attn_out = Probe(), Probe(), Probe()

    def forward(self, x: Float[Tensor, "B T C"], cache: LayerCache | None = None) -> Float[Tensor, "B T C"]:
        B, T, C = x.shape
        q, k, v = self.project(x, start=cache.length if cache else 0)
        if cache:
            k, v = cache.append(k, v)
        z = self.z(self.attend(q, k, v))  # (B, H, T, D)
        heads = z.transpose(1, 2).reshape(B, T, C)  # side by side
        return self.attn_out(self.dropout(self.output(heads) if self.output else heads))

    def project(
        self, x: Float[Tensor, "B T C"], start: int = 0
    ) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B Hkv T D"], Float[Tensor, "B Hkv T D"]]:
        """Queries, keys and values of every head; the first token stands at position `start`."""
        B, T, _ = x.shape
        heads = self.qkv(x).view(B, T, -1, self.d_head)
        qk, v = heads.split([self.n_heads + self.n_kv_heads, self.n_kv_heads], dim=2)
        if self.qk_norm:
            qk = self.qk_norm(qk)
        if self.rotary:
            qk = self.rotary(qk, start)
        q, k = qk.split([self.n_heads, self.n_kv_heads], dim=2)
        return self.q(q.transpose(1, 2)), self.k(k.transpose(1, 2)), self.v(v.transpose(1, 2))

    def attend(
        self, q: Float[Tensor, "B H T D"], k: Float[Tensor, "B Hkv S D"], v: Float[Tensor, "B Hkv S D"]
    ) -> Float[Tensor, "B H T D"]:
        """The operator of `kernels/attention`, or its written-out form while someone looks at the pattern."""
        p = self.pattern_dropout if self.training else 0.0
        if not (self.attn_scores.heard or self.pattern.heard):
            return attention(q, k, v, softmax_scale=self.softmax_scale, dropout=p)
        scores = self.attn_scores(attention_scores(q, k, causal=True, softmax_scale=self.softmax_scale))
        pattern = self.pattern(scores.softmax(dim=-1))  # (B, H, T, S)
        return (dropout(pattern, p) if p else pattern) @ repeat_heads(v, self.n_heads)
