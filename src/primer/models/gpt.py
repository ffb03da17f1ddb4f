"""The decoder-only Transformer, from token ids to logits.

Radford et al. 2019 (GPT-2) with its options named in `GPTConfig`; the parts are those of Vaswani et al. 2017.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from primer.errors import UsageError
from primer.kernels.cross_entropy import in_chunks, linear_cross_entropy
from primer.models.config import GPTConfig
from primer.models.ids import check_ids
from primer.nn.attention import MultiHeadAttention
from primer.nn.cache import KeyValueCache, LayerCache
from primer.nn.counts import CountedNGrams, NGramMixture
from primer.nn.dropout import Dropout
from primer.nn.feed_forward import FeedForward
from primer.nn.loss import cross_entropy
from primer.nn.ngram import HashedNGrams
from primer.nn.norm import make_norm
from primer.nn.positions import Rotary, SinusoidalPositions
from primer.nn.probe import Probe


class Block(nn.Module):
    """Attention moves information between positions; the feed-forward works on each. Both add to the stream."""

    def __init__(self, config: GPTConfig, rotary: Rotary | None) -> None:
        super().__init__()
        self.norm = config.norm
        self.attention = MultiHeadAttention(
            config.d_model,
            config.n_heads,
            n_kv_heads=config.kv_heads,
            qkv_bias=config.has_qkv_bias,
            bias=config.bias,
            output=config.attention_output,
            softmax_scale=config.softmax_scale,
            rotary=rotary,
            qk_norm=config.norm_type if config.qk_norm else None,
            pattern_dropout=config.pattern_dropout,
            dropout=config.attention_dropout,
        )
        self.feed_forward = FeedForward(
            config.d_model,
            config.feed_forward_width,
            activation=config.activation,
            bias=config.bias,
            dropout=config.feed_forward_dropout,
        )
        self.attention_norm, self.feed_forward_norm = norm_of(config), norm_of(config)
        self.resid_pre, self.resid_mid, self.resid_post = Probe(), Probe(), Probe()

    def forward(self, x: Float[Tensor, "B T C"], cache: LayerCache | None = None) -> Float[Tensor, "B T C"]:
        x = self.resid_pre(x)
        if self.norm == "post":  # LayerNorm(x + Sublayer(x)): Vaswani et al. 2017, §3.1
            x = self.resid_mid(self.attention_norm(x + self.attention(x, cache)))
            return self.resid_post(self.feed_forward_norm(x + self.feed_forward(x)))
        # x + Sublayer(LayerNorm(x)): GPT-2, §2.3; with norm="none" the norms are the identity
        x = self.resid_mid(x + self.attention(self.attention_norm(x), cache))
        return self.resid_post(x + self.feed_forward(self.feed_forward_norm(x)))


class GPT(nn.Module):
    """Token ids in, for every position the logits of the next token out."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        if config.vocab_size < 1:
            raise UsageError("model.vocab_size must be known before a model is built")
        self.config = config
        C, V, T = config.d_model, config.vocab_size, config.context_length

        self.token_embedding = nn.Embedding(V, C)
        self.position_embedding: nn.Module | None = None
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(T, C)
        elif config.positions == "sinusoidal":
            self.position_embedding = SinusoidalPositions(T, C)
        self.ngrams = None
        if config.ngram.orders:
            self.ngrams = HashedNGrams(
                config.ngram.orders, config.ngram.rows, C, dropout=config.ngram.dropout
            )
        self.embedding_dropout = Dropout(config.embedding_dropout)

        self.embedding_norm = norm_of(config) if config.embedding_norm else nn.Identity()
        self.counts = self.counts_in = self.mixture = None
        if config.ngram.counted:
            self.counts = CountedNGrams(V, config.ngram.counted, config.ngram.folds)
            self.counts_in = nn.Linear(V, C, bias=False)
            self.mixture = NGramMixture(C, config.ngram.counted)

        rotary = Rotary(T, config.d_head, config.rotary_base) if config.positions == "rotary" else None
        self.layers = nn.ModuleList(Block(config, rotary) for _ in range(config.n_layers))
        self.final_norm = norm_of(config) if config.norm == "pre" else nn.Identity()
        self.head = nn.Linear(C, V, bias=config.head_bias)
        if config.tied_head:
            self.head.weight = self.token_embedding.weight
        self.embed, self.logits = Probe(), Probe()
        initialise(self)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        cache: KeyValueCache | None = None,
        starts: Int[Tensor, " B"] | None = None,
        targets: Int[Tensor, "B T"] | None = None,
        label_smoothing: float = 0.0,
    ) -> Float[Tensor, "B T V"] | Float[Tensor, ""]:
        """Logits; with `targets`, the mean loss instead (`nn/loss.py`), which need not hold all logits at once.

        With a cache, `tokens` are the ones that come after those it holds; it is filled as they are read.
        `starts` is for training with counted n-grams alone: where in the training text each row was cut.
        On a CPU an id outside the vocabulary is a UsageError; elsewhere whoever brings ids in has checked them.
        """
        if tokens.device.type == "cpu" and not torch.compiler.is_compiling():
            check_ids(tokens, self.config.vocab_size)
            if targets is not None:
                check_ids(targets, self.config.vocab_size, "the targets")
        log_p = None  # (B, T, K, V)
        if self.counts is not None:
            log_p = self.counts(tokens, cache.recent if cache else None, starts)
        x = self.embed(self.embedding_dropout(self.embedded(tokens, cache, log_p)))  # (B, T, C)
        for number, layer in enumerate(self.layers):
            x = layer(x, cache.layers[number] if cache else None)
        if cache:
            cache.remember(tokens, self.memory)
        h = self.final_norm(x)
        if targets is not None and self.skips_logits(h):
            return linear_cross_entropy(
                h,
                self.head.weight,
                targets,
                bias=self.head.bias,
                label_smoothing=label_smoothing,
                soft_cap=self.config.logit_soft_cap,
            )
        logits = self.head(h)  # (B, T, V)
        if self.config.logit_soft_cap:
            logits = self.config.logit_soft_cap * torch.tanh(logits / self.config.logit_soft_cap)
        if self.mixture is not None:
            logits = logits + self.mixture(h, log_p)
        logits = self.logits(logits)
        return logits if targets is None else cross_entropy(logits, targets, label_smoothing=label_smoothing)

    def skips_logits(self, h: Float[Tensor, "B T C"]) -> bool:
        """Whether the loss is better computed a chunk of logits at a time: there are many of them, and nobody looks."""
        many = in_chunks(h.shape[0] * h.shape[1] * self.config.vocab_size, h)
        return many and self.mixture is None and not self.logits.heard

    def embedded(
        self,
        tokens: Int[Tensor, "B T"],
        cache: KeyValueCache | None = None,
        log_p: Float[Tensor, "B T K V"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """What each token is, plus where it stands, plus (where asked for) what the last few tokens say."""
        start = cache.length if cache else 0
        stop = start + tokens.shape[1]
        if stop > self.config.context_length:
            raise UsageError(
                f"{stop} tokens do not fit into the model's context of {self.config.context_length}",
                hint="give fewer tokens, or generate with `primer sample`, which moves the window along",
            )
        x = self.lookup(tokens)
        if self.position_embedding is not None:
            x = x + self.position_embedding(torch.arange(start, stop, device=tokens.device))
        if self.ngrams is not None:
            x = x + self.ngrams(tokens, cache.recent if cache else None)
        if self.counts_in is not None and log_p is not None:
            # of the longest context; scaled to about −2.6 … 1, the size of what else comes in
            x = x + self.counts_in(log_p[:, :, -1].clamp(min=-12) * 0.3 + 1)
        return in_stream_dtype(self.embedding_norm(x))

    def lookup(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """Each token's row. A tied head's gradient fills the whole matrix anyway: then only rows are added to it."""
        weight = self.token_embedding.weight
        eager_cpu = tokens.device.type == "cpu" and not torch.compiler.is_compiling()
        return F.embedding(tokens, weight, sparse=self.config.tied_head and eager_cpu)

    @property
    def memory(self) -> int:
        """How many tokens n-grams look back at, before the present one."""
        hashed = self.ngrams.memory if self.ngrams is not None else 0
        return max(hashed, self.config.ngram.counted - 1)

    def new_cache(self, batch_size: int) -> KeyValueCache:
        """An empty cache for `batch_size` sequences, in this model's dtype and on its device."""
        config, weight = self.config, self.token_embedding.weight
        shape = (batch_size, config.kv_heads, config.context_length, config.d_head)
        return KeyValueCache(config.n_layers, shape, dtype=weight.dtype, device=weight.device)


def in_stream_dtype(x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
    """What comes into the residual stream: in bfloat16 where autocast computes products in it, which halves the bytes
    that norms and additions move (4 % of GPT-2's step on an H200). fp16's range is too short for sums of many layers.
    """
    device = x.device.type
    narrow = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
    return x.to(torch.bfloat16) if narrow else x


def norm_of(config: GPTConfig) -> nn.Module:
    """The norm that the config names."""
    if config.norm == "none":
        return nn.Identity()
    return make_norm(
        config.norm_type, config.d_model, eps=config.norm_eps, gain=config.norm_gain, bias=config.bias
    )


@torch.no_grad()
def initialise(model: GPT) -> None:
    """Fill the weights as the config says; with `init="torch"` they stay as torch made them.

    Radford et al. 2019, §2.3: Normal(0, 0.02), zero biases, and the 2·L projections that add to the residual
    stream √(2L) smaller, so that the stream's variance does not grow with depth.
    """
    config = model.config
    if config.init == "gpt2":
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(0.0, config.init_std or module.weight.shape[-1] ** -0.5)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
    if config.embedding_std:
        model.token_embedding.weight.normal_(0.0, config.embedding_std)
    for layer in model.layers:
        assert isinstance(layer, Block)
        for projection in (layer.attention.output, layer.feed_forward.contract):
            if projection is None:
                continue
            if config.zero_init_projections:
                projection.weight.zero_()
            elif config.init == "gpt2" and config.depth_scaled_init:
                projection.weight.div_((2 * config.n_layers) ** 0.5)
    if config.zero_init_head:
        model.head.weight.zero_()
    if model.counts_in is not None and model.mixture is not None:
        model.counts_in.weight.zero_()
        model.mixture.start()
