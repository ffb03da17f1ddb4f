"""The sizes and options of each model, as one frozen value. No torch here: help must answer at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from primer.errors import UsageError, nearest

LARGEST = 1 << 24
"""No size of a model is larger: what is was mistyped, and would fill the memory before it failed."""

PRESETS: dict[str, dict[str, int]] = {
    "gpt2": {"n_layers": 12, "n_heads": 12, "d_model": 768},
    "gpt2-medium": {"n_layers": 24, "n_heads": 16, "d_model": 1024},
    "gpt2-large": {"n_layers": 36, "n_heads": 20, "d_model": 1280},
    "gpt2-xl": {"n_layers": 48, "n_heads": 25, "d_model": 1600},
}
"""GPT-2's four sizes: Radford et al. 2019, table 2, with the heads of the released models."""

TRANSFORMERS: dict[str, dict[str, int | float]] = {
    "tiny": {"n_layers": 4, "n_heads": 4, "d_model": 128, "d_ff": 256, "dropout": 0.3},
    "base": {"n_layers": 6, "n_heads": 8, "d_model": 512, "d_ff": 2048, "dropout": 0.1},
    "big": {"n_layers": 6, "n_heads": 16, "d_model": 1024, "d_ff": 4096, "dropout": 0.3},
}
"""base and big: Vaswani et al. 2017, table 3. tiny: for some ten thousand sentences (Wu et al. 2021, §3.1)."""


@dataclass(frozen=True)
class NGramConfig:
    """What a model is told about the last few tokens, beside what attention finds out.

    Hashed inputs (`nn/ngram.py`): for each of `orders`, an embedding of the last n tokens is added to the
    token's own. Counted predictions (`nn/counts.py`): before training, what followed each context of up to
    `counted` tokens is counted in the training text, and the model learns where to trust the counts.
    """

    orders: tuple[int, ...] = ()
    """Hashed inputs: which n; (2, 3) adds a bigram and a trigram table. Empty: none."""
    rows: int = 1 << 14
    """Rows of each table; n-grams are hashed into them."""
    dropout: float = 0.0
    """Chance that a looked-up row is zeroed while training: rare n-grams memorise, this is what stops it."""
    counted: int = 0
    """Counted predictions: the longest context. 0: none."""
    folds: int = 10
    """A window is trained with the counts of the other folds of the text, so that it never sees its own."""

    def __post_init__(self) -> None:
        if any(n < 2 for n in self.orders) or self.rows < 1:
            raise UsageError("model.ngram.orders start at 2 and model.ngram.rows at 1")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"model.ngram.dropout must lie in [0, 1), got {self.dropout}")
        if self.counted < 0 or self.folds < 2:
            raise UsageError("model.ngram.counted must not be negative, model.ngram.folds must be at least 2")


@dataclass(frozen=True)
class GPTConfig:
    """A decoder-only Transformer. The defaults are a small modern GPT; GPT-2 is a set of options away."""

    vocab_size: int = 0
    """Distinct tokens (V). 0: taken from the tokenizer when the run starts."""
    vocab_multiple: int = 1
    """V taken from the tokenizer is rounded up to a multiple of this: matrix units like whole tiles (nanoGPT: 64)."""
    context_length: int = 256
    """The longest sequence (T) that the model sees at once."""
    d_model: int = 128
    """Width of the residual stream (C)."""
    n_layers: int = 4
    """Blocks (L)."""
    n_heads: int = 4
    """Query heads (H); `d_model` must divide by it."""
    n_kv_heads: int = 0
    """Key and value heads, shared by groups of query heads (Ainslie et al. 2023). 0: as many as `n_heads`."""
    d_ff: int = 0
    """Width inside the feed-forward (F). 0: 4 × d_model (for swiglu 8/3 × d_model, the same parameters)."""

    norm: Literal["pre", "post", "none"] = "pre"
    """Where it stands: after the residual sum (Vaswani et al. 2017), before the sublayer (GPT-2), nowhere."""
    norm_type: Literal["layernorm", "rmsnorm"] = "layernorm"
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang & Sennrich 2019)."""
    norm_eps: float = 1e-5
    """Added to the variance before its root."""
    norm_gain: bool = True
    """Whether a norm has a learned scale (and, with `bias`, a shift)."""
    positions: Literal["learned", "sinusoidal", "rotary", "none"] = "learned"
    """How the model knows the order: GPT-2, Vaswani et al. §3.5, Su et al. 2021, or not at all."""
    rotary_base: float = 10000.0
    """θ of the rotary embedding."""
    activation: Literal["relu", "gelu", "relu2", "swiglu"] = "gelu"
    """Inside the feed-forward: 2017's ReLU, GPT-2's GELU, Primer-EZ's ReLU² (So et al. 2021), Shazeer 2020."""
    bias: bool = True
    """Bias in the linear layers and norms."""
    qkv_bias: bool | None = None
    """Bias of the query, key and value projections. Unset: as `bias` (the lecture has none here)."""
    head_bias: bool = False
    """Bias of the output layer (the lecture has one)."""
    tied_head: bool = False
    """Output layer and token embedding are one matrix (Press & Wolf 2017; GPT-2)."""
    embedding_norm: bool = False
    """A norm right behind the embeddings, so that their size does not matter."""
    qk_norm: bool = False
    """The norm (without a gain) on each query and key head, so that scores cannot explode (Henry et al. 2020)."""
    attention_gain: float = 1.0
    """Scores are multiplied by this as well: with `qk_norm` they are too even to point at one token."""
    logit_soft_cap: float = 0.0
    """c · tanh(logits / c), so that no logit leaves ±c (Gemma 2). 0: none."""
    attention_scale: Literal["d_head", "d_model"] = "d_head"
    """Scores are multiplied by d_head^-½ (Vaswani et al. eq. 1); the lecture's script uses d_model^-½."""
    attention_output: bool = True
    """The projection W^O after the heads are put side by side; the lecture's script leaves it out."""

    embedding_dropout: float = 0.0
    """Dropout on the sum of token and position embeddings."""
    pattern_dropout: float = 0.0
    """Dropout on the attention weights."""
    attention_dropout: float = 0.0
    """Dropout on the attention's output, before it is added to the residual stream."""
    feed_forward_dropout: float = 0.0
    """Dropout on the feed-forward's output, before it is added to the residual stream."""

    init: Literal["gpt2", "torch"] = "gpt2"
    """Normal(0, init_std) as in GPT-2, or torch's defaults (the lecture)."""
    init_std: float = 0.02
    """Standard deviation of GPT-2's initialisation; 0: 1/√(inputs), which keeps the size of what goes through."""
    embedding_std: float = 0.0
    """Standard deviation of the token embedding. 0: as `init_std`."""
    depth_scaled_init: bool = True
    """Projections into the residual stream start √(2L) smaller (GPT-2 paper §2.3); only with init="gpt2"."""
    zero_init_projections: bool = False
    """Projections into the residual stream start at zero: each block starts as the identity."""
    zero_init_head: bool = False
    """The output layer starts at zero: the first prediction is that nothing is known."""
    ngram: NGramConfig = field(default_factory=NGramConfig)

    def __post_init__(self) -> None:
        for name in ("context_length", "d_model", "n_layers", "n_heads", "vocab_multiple"):
            if getattr(self, name) < 1:
                raise UsageError(f"model.{name} must be at least 1, got {getattr(self, name)}")
        for name in (
            "context_length",
            "d_model",
            "d_ff",
            "n_layers",
            "n_heads",
            "vocab_size",
            "vocab_multiple",
        ):
            if getattr(self, name) > LARGEST:
                raise UsageError(f"model.{name} must be at most {LARGEST:,}, got {getattr(self, name):,}")
        if self.vocab_size < 0 or self.d_ff < 0 or self.n_kv_heads < 0:
            raise UsageError("model.vocab_size, model.d_ff and model.n_kv_heads must not be negative")
        _check_heads(self.d_model, self.n_heads)
        if self.n_heads % self.kv_heads:
            raise UsageError(
                f"model.n_heads={self.n_heads} does not divide by model.n_kv_heads={self.n_kv_heads}",
                hint="--model.n-kv-heads=1 (multi-query) or a divisor of n_heads",
            )
        if self.positions == "rotary" and self.d_head % 2:
            raise UsageError(f"rotary positions need an even head width, got d_head={self.d_head}")
        if self.tied_head and self.zero_init_head:
            raise UsageError(
                "model.tied_head and model.zero_init_head exclude each other: the embedding would start at zero, "
                "and no gradient would ever reach it",
                hint="--model.zero-init-head=false",
            )
        for name in ("rotary_base", "norm_eps", "attention_gain"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"model.{name} must be a positive number, got {getattr(self, name)}")
        for name in ("init_std", "embedding_std", "logit_soft_cap"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"model.{name} must not be negative, got {getattr(self, name)}")
        for name in ("embedding_dropout", "pattern_dropout", "attention_dropout", "feed_forward_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"model.{name} must lie in [0, 1), got {getattr(self, name)}")

    def padded(self, vocabulary: int) -> int:
        """The rows of embedding and head for so many tokens: `vocab_multiple` of them at a time."""
        return -(-vocabulary // self.vocab_multiple) * self.vocab_multiple

    @classmethod
    def preset(cls, name: str, **changes: Any) -> GPTConfig:
        """GPT-2 in one of its four sizes, as it was released; no dropout. UsageError for any other name.

        >>> GPTConfig.preset("gpt2-xl", context_length=256).n_heads
        25
        """
        if name not in PRESETS:
            close = nearest(name, list(PRESETS))
            raise UsageError(f"unknown preset {name!r}", hint=close or "one of " + ", ".join(PRESETS))
        released: dict[str, Any] = {"vocab_size": 50257, "context_length": 1024, "tied_head": True}
        return cls(**(released | PRESETS[name] | changes))

    @property
    def d_head(self) -> int:
        """Width of one head (D)."""
        return self.d_model // self.n_heads

    @property
    def softmax_scale(self) -> float:
        """What attention scores are multiplied by."""
        width = self.d_model if self.attention_scale == "d_model" else self.d_head
        return self.attention_gain * width**-0.5

    @property
    def kv_heads(self) -> int:
        """Key and value heads, with 0 resolved."""
        return self.n_kv_heads or self.n_heads

    @property
    def feed_forward_width(self) -> int:
        """Width inside the feed-forward (F), with 0 resolved; swiglu's is rounded up to a multiple of 8."""
        if self.d_ff:
            return self.d_ff
        if self.activation == "swiglu":
            return -(-(8 * self.d_model // 3) // 8) * 8
        return 4 * self.d_model

    @property
    def has_qkv_bias(self) -> bool:
        """Whether the query, key and value projections have a bias, with "unset" resolved."""
        return self.bias if self.qkv_bias is None else self.qkv_bias


@dataclass(frozen=True)
class TransformerConfig:
    """The encoder–decoder of Vaswani et al. 2017; the defaults are its base model."""

    vocab_size: int = 0
    """Distinct tokens (V) of both languages together. 0: taken from the tokenizer when the run starts."""
    vocab_multiple: int = 1
    """V taken from the tokenizer is rounded up to a multiple of this: matrix units like whole tiles."""
    context_length: int = 256
    """The longest sentence in tokens, of either language, its end included."""
    d_model: int = 512
    """Width of the residual stream (C)."""
    n_layers: int = 6
    """Layers of the encoder, and of the decoder (the paper's N)."""
    n_heads: int = 8
    """Heads (H, the paper's h); `d_model` must divide by it."""
    d_k: int = 0
    """Width of a head's queries and keys. 0: d_model / n_heads, as wide as its values."""
    d_ff: int = 2048
    """Width inside the feed-forward (F)."""

    norm: Literal["post", "pre"] = "post"
    """Where LayerNorm stands: after the residual sum, as published (§3.1), or before the sublayer, as in GPT-2."""
    norm_eps: float = 1e-5
    """Added to the variance before its root."""
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    """How the model knows the order (§3.5); learned ones are row (E) of table 3."""
    attention_bias: bool = False
    """Biases in the projections of attention: torch.nn.Transformer has them, the paper's equations do not."""

    dropout: float = 0.1
    """P_drop: on each sublayer's output, and on the sums of embeddings and positions (§5.4)."""
    pattern_dropout: float = 0.0
    """Dropout on the attention weights; not in the paper, but in the code beside it."""
    hidden_dropout: float = 0.0
    """Dropout inside the feed-forward, behind the ReLU; not in the paper, but in the code beside it."""

    def __post_init__(self) -> None:
        sizes = ("context_length", "d_model", "n_layers", "n_heads", "d_ff", "vocab_multiple")
        for name in (*sizes, "vocab_size", "d_k"):
            least = 1 if name in sizes else 0
            if not least <= getattr(self, name) <= LARGEST:
                raise UsageError(
                    f"model.{name} must lie between {least} and {LARGEST:,}, got {getattr(self, name):,}"
                )
        _check_heads(self.d_model, self.n_heads)
        if not 0 < self.norm_eps < math.inf:
            raise UsageError(f"model.norm_eps must be a positive number, got {self.norm_eps}")
        for name in ("dropout", "pattern_dropout", "hidden_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"model.{name} must lie in [0, 1), got {getattr(self, name)}")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TransformerConfig:
        """The model `base` or `big` of the paper, or `tiny`. UsageError for any other name.

        >>> TransformerConfig.preset("big").d_ff
        4096
        """
        if name not in TRANSFORMERS:
            close = nearest(name, list(TRANSFORMERS))
            raise UsageError(f"unknown preset {name!r}", hint=close or "one of " + ", ".join(TRANSFORMERS))
        sizes: dict[str, Any] = dict(TRANSFORMERS[name])
        return cls(**(sizes | changes))

    def padded(self, vocabulary: int) -> int:
        """The rows of the embedding for so many tokens: `vocab_multiple` of them at a time."""
        return -(-vocabulary // self.vocab_multiple) * self.vocab_multiple

    @property
    def d_v(self) -> int:
        """Width of a head's values."""
        return self.d_model // self.n_heads

    @property
    def key_width(self) -> int:
        """Width of a head's queries and keys, with 0 resolved."""
        return self.d_k or self.d_v


def _check_heads(d_model: int, n_heads: int) -> None:
    """UsageError for heads that do not divide the width, with the nearest number that does."""
    if d_model % n_heads:
        near = [h for h in range(1, d_model + 1) if d_model % h == 0]
        best = min(near, key=lambda h: abs(h - n_heads))
        raise UsageError(
            f"model.d_model={d_model} does not divide by model.n_heads={n_heads}",
            hint=f"--model.n-heads={best}, or a d_model that is a multiple of {n_heads}",
        )
