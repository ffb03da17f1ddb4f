"""The Transformer, as published: Vaswani et al. 2017, "Attention Is All You Need", in the order of its section 3.

Its parts are those of the GPT in this package (`nn/`): attention, feed-forward, positions, norms. What it has and a
GPT has not is an encoder, which reads the whole source at once, and attention from the decoder to what it read.
"""

import math
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from primer.errors import UsageError
from primer.kernels.cross_entropy import in_chunks, linear_cross_entropy
from primer.models.config import TransformerConfig
from primer.models.ids import check_ids
from primer.nn.attention import CrossAttention, Memory, MultiHeadAttention
from primer.nn.cache import DecoderCache, LayerCache
from primer.nn.dropout import Dropout
from primer.nn.feed_forward import FeedForward
from primer.nn.loss import cross_entropy
from primer.nn.norm import LayerNorm
from primer.nn.positions import SinusoidalPositions
from primer.nn.probe import Probe
from primer.shapes import PADDING


class Transformer(nn.Module):
    """Figure 1: source ids and the target so far in, for every position of the target the next token's logits out.

    A row that is shorter than its batch ends with `shapes.PADDING`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if config.vocab_size < 1:
            raise UsageError("model.vocab_size must be known before a model is built")
        self.config = config
        self.embedding = Embeddings(config)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.n_layers))
        # Where norms stand before sublayers, nothing has normalised the last sum.
        self.encoder_norm, self.decoder_norm = (
            norm_of(config) if config.norm == "pre" else nn.Identity() for _ in range(2)
        )
        self.encoded, self.logits = Probe(), Probe()
        initialise(self)

    def forward(
        self,
        source: Int[Tensor, "B S"],
        target: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"] | None = None,
        label_smoothing: float = 0.0,
        last_only: bool = False,
    ) -> Float[Tensor, "B T V"] | Float[Tensor, "B 1 V"] | Float[Tensor, ""]:
        """Logits; with `targets` (the target, one token on) the mean loss over those that are no padding.

        last_only: the logits of the last place alone.
        On a CPU an id outside the vocabulary is a UsageError; elsewhere whoever brings ids in has checked them.
        """
        encoded, seen = self.encode(source)
        h = self.decoded(self.embedding(self.checked(target, "the target")), encoded, seen)
        if targets is None:
            return self.logits(self.embedding.unembed(h[:, -1:] if last_only else h))
        real = (self.checked(targets, "the targets").flatten() != PADDING).nonzero().squeeze(1)
        if not len(real):  # the rows of a process that has no part in this batch
            # The head's part is 0 as well, and has the shape of the matrix, as in processes that have a row.
            return 0.0 * (h.sum() + self.embedding.tokens.weight.sum())
        h, wanted = h.flatten(0, 1)[real], targets.flatten()[real]  # (N, C), (N): no work for padding
        if in_chunks(len(wanted) * self.config.vocab_size, h) and not self.logits.heard:
            return linear_cross_entropy(
                h, self.embedding.tokens.weight, wanted, label_smoothing=label_smoothing
            )
        return cross_entropy(self.logits(self.embedding.unembed(h)), wanted, label_smoothing=label_smoothing)

    # 3.1 Encoder and decoder stacks

    def encode(self, source: Int[Tensor, "B S"]) -> tuple[Float[Tensor, "B S C"], Bool[Tensor, "B S"] | None]:
        """What the encoder makes of each token of the source; and which are tokens (on a CPU None, if all are)."""
        real = self.checked(source, "the source") != PADDING
        seen = None if source.device.type == "cpu" and bool(real.all()) else real
        x = self.embedding(source)
        for layer in self.encoder:
            x = layer(x, seen)
        return self.encoded(self.encoder_norm(x)), seen

    def remembered(self, encoded: Float[Tensor, "B S C"]) -> list[Memory]:
        """Each decoder layer's keys and values of the source."""
        layers = (cast(DecoderLayer, layer) for layer in self.decoder)
        return [layer.cross_attention.remember(encoded) for layer in layers]

    def decoded(
        self,
        x: Float[Tensor, "N T C"],
        encoded: Float[Tensor, "B S C"] | list[Memory],
        seen: Bool[Tensor, "B S"] | None,
        cache: list[LayerCache] | None = None,
    ) -> Float[Tensor, "N T C"]:
        """The decoder's stack, about what was encoded (or what its layers remember of that).

        Padding stands at the end of the target, where no token before it can look.
        """
        for number, layer in enumerate(self.decoder):
            about = encoded[number] if isinstance(encoded, list) else encoded
            x = layer(x, about, seen, cache[number] if cache else None)
        return self.decoder_norm(x)

    def start(self, source: Int[Tensor, "B S"], rows: int, length: int) -> DecoderCache:
        """Read the source once, before the decoder writes: `rows` rows about each, of `length` tokens at most."""
        encoded, seen = self.encode(source)
        config = self.config
        shape = (len(source) * rows, config.n_heads, length, config.key_width)
        layers = [LayerCache(shape, encoded.dtype, encoded.device, config.d_v) for _ in self.decoder]
        return DecoderCache(layers, self.remembered(encoded), seen)

    def step(self, tokens: Int[Tensor, "N T"], cache: DecoderCache) -> Float[Tensor, "N V"]:
        """Logits of the token that follows `tokens`, which follow those that the cache holds."""
        x = self.embedding(tokens, start=cache.length)
        h = self.decoded(x, cache.memory, cache.seen, cache.layers)
        return self.embedding.unembed(h[:, -1])

    def checked(self, ids: Int[Tensor, "B T"], name: str) -> Int[Tensor, "B T"]:
        """The ids; UsageError for one that is neither padding nor in the vocabulary (asked on a CPU alone)."""
        if ids.device.type == "cpu" and not torch.compiler.is_compiling():
            check_ids(ids, self.config.vocab_size, name, least=PADDING)
        return ids


class EncoderLayer(nn.Module):
    """Self-attention over the whole source, then the feed-forward at each position; each adds to the stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = config.norm
        self.attention = self_attention(config, causal=False)
        self.feed_forward = feed_forward(config)
        self.attention_norm, self.feed_forward_norm = norm_of(config), norm_of(config)
        self.resid_pre, self.resid_mid, self.resid_post = Probe(), Probe(), Probe()

    def forward(
        self, x: Float[Tensor, "B S C"], seen: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B S C"]:
        x = self.resid_pre(x)
        if self.norm == "post":  # LayerNorm(x + Sublayer(x))
            x = self.resid_mid(self.attention_norm(x + self.attention(x, seen=seen)))
            return self.resid_post(self.feed_forward_norm(x + self.feed_forward(x)))
        x = self.resid_mid(x + self.attention(self.attention_norm(x), seen=seen))
        return self.resid_post(x + self.feed_forward(self.feed_forward_norm(x)))


class DecoderLayer(nn.Module):
    """Self-attention over what is written so far, attention to the source, the feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = config.norm
        self.attention = self_attention(config, causal=True)
        self.cross_attention = CrossAttention(
            config.d_model,
            config.n_heads,
            d_k=config.key_width,
            qkv_bias=config.attention_bias,
            bias=config.attention_bias,
            pattern_dropout=config.pattern_dropout,
            dropout=config.dropout,
        )
        self.feed_forward = feed_forward(config)
        self.attention_norm, self.cross_attention_norm, self.feed_forward_norm = (
            norm_of(config) for _ in range(3)
        )
        self.resid_pre, self.resid_mid, self.resid_cross, self.resid_post = (Probe() for _ in range(4))

    def forward(
        self,
        x: Float[Tensor, "N T C"],
        encoded: Float[Tensor, "B S C"] | Memory,
        seen: Bool[Tensor, "B S"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "N T C"]:
        memory = self.cross_attention.remember(encoded) if isinstance(encoded, Tensor) else encoded
        x = self.resid_pre(x)
        if self.norm == "post":
            x = self.resid_mid(self.attention_norm(x + self.attention(x, cache)))
            x = self.resid_cross(self.cross_attention_norm(x + self.look(x, memory, seen)))
            return self.resid_post(self.feed_forward_norm(x + self.feed_forward(x)))
        x = self.resid_mid(x + self.attention(self.attention_norm(x), cache))
        x = self.resid_cross(x + self.look(self.cross_attention_norm(x), memory, seen))
        return self.resid_post(x + self.feed_forward(self.feed_forward_norm(x)))

    def look(
        self,
        x: Float[Tensor, "N T C"],
        memory: Memory,
        seen: Bool[Tensor, "B S"] | None,
    ) -> Float[Tensor, "N T C"]:
        """Attention to the source. The rows that write about one source are more queries to the same keys."""
        sources = len(memory[0])
        return self.cross_attention(x.view(sources, -1, x.shape[-1]), memory, seen).view_as(x)


# 3.2 Attention: equation 1 is in kernels/attention, its heads are in nn/attention. 3.2.3 names the three uses.


def self_attention(config: TransformerConfig, *, causal: bool) -> MultiHeadAttention:
    """Over the source (all of it), or over the target (`causal`: nothing later than the position itself)."""
    return MultiHeadAttention(
        config.d_model,
        config.n_heads,
        d_k=config.key_width,
        causal=causal,
        qkv_bias=config.attention_bias,
        bias=config.attention_bias,
        pattern_dropout=config.pattern_dropout,
        dropout=config.dropout,
    )


# 3.3 Position-wise feed-forward networks


def feed_forward(config: TransformerConfig) -> FeedForward:
    """FFN(x) = max(0, x·W₁ + b₁)·W₂ + b₂ (eq. 2)."""
    return FeedForward(
        config.d_model,
        config.d_ff,
        activation="relu",
        dropout=config.dropout,
        hidden_dropout=config.hidden_dropout,
    )


# 3.4 Embeddings and softmax, 3.5 Positional encoding


class Embeddings(nn.Module):
    """One matrix for both languages and, transposed, for the logits; as an embedding it is multiplied by √d_model."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        kind = SinusoidalPositions if config.positions == "sinusoidal" else nn.Embedding
        self.positions = kind(config.context_length, config.d_model)
        self.context_length = config.context_length
        self.scale = math.sqrt(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, ids: Int[Tensor, "B T"], start: int = 0) -> Float[Tensor, "B T C"]:
        """What each token is and where it stands, the first one at position `start`; padding is like any token."""
        stop = start + ids.shape[1]
        if stop > self.context_length:
            raise UsageError(
                f"{stop} tokens do not fit into the model's context of {self.context_length}",
                hint="a shorter sentence",
            )
        # On a CPU the gradient of the head fills the whole matrix anyway: then only rows are added to it.
        eager_cpu = ids.device.type == "cpu" and not torch.compiler.is_compiling()
        x = F.embedding(ids.clamp(min=0), self.tokens.weight, sparse=eager_cpu) * self.scale
        return self.dropout(x + self.positions(torch.arange(start, stop, device=ids.device)))

    def unembed(self, h: Float[Tensor, "*B C"]) -> Float[Tensor, "*B V"]:
        """The logits of every token."""
        return F.linear(h, self.tokens.weight)


def norm_of(config: TransformerConfig) -> LayerNorm:
    """One LayerNorm of the stream."""
    return LayerNorm(config.d_model, eps=config.norm_eps)


@torch.no_grad()
def initialise(model: Transformer) -> None:
    """The paper does not say how. As in its authors' code (tensor2tensor): embeddings Normal(0, d_model^-½), each
    projection uniform with the variance 2 / (inputs + outputs) of Glorot & Bengio 2010, biases 0.

    Queries, keys and values are projections of their own, though they share a matrix here.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.weight.normal_(0.0, model.config.d_model**-0.5)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                module.bias.zero_()
    keys, values = model.config.n_heads * model.config.key_width, model.config.d_model
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            pieces = module.qkv.weight.split([keys, keys, values])
        elif isinstance(module, CrossAttention):
            pieces = module.keys_values.weight.split([keys, values])
        else:
            continue
        for piece in pieces:
            nn.init.xavier_uniform_(piece)
