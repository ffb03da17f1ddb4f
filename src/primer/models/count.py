"""How large a GPT is and what a token costs, by arithmetic: before it is built, and without torch.

Counts are exact (the tests build every kind of model and compare); activations are an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from primer.models.config import GPTConfig, TransformerConfig

SENTENCE = 24
"""Tokens of a sentence, where what a token costs depends on it."""

SMALL_TABLE, FEW_WEIGHTS = 96 * 96, 1 << 20
"""Weights of a head, and of all heads together: as few as attention with dropout on a CPU keeps, and its mask."""

FLOAT = 4
"""Bytes of a float32: weights, gradients and optimizer state, whatever matrix products are computed in."""


def parameters(config: GPTConfig | TransformerConfig) -> int:
    """All weights that are trained; a tied head counts once, as its embedding.

    >>> sizes = {"vocab_size": 50257, "context_length": 1024, "d_model": 768, "n_layers": 12, "n_heads": 12}
    >>> parameters(GPTConfig(**sizes, tied_head=True))  # GPT-2
    124439808
    """
    if isinstance(config, TransformerConfig):
        return _of_transformer(config)
    C, V = config.d_model, config.vocab_size
    embeddings = V * C + config.context_length * C * (config.positions == "learned")
    embeddings += len(config.ngram.orders) * config.ngram.rows * C
    norms = {"pre": 2 * config.n_layers + 1, "post": 2 * config.n_layers, "none": 0}[config.norm]
    norms += config.embedding_norm and config.norm != "none"
    head = V * C * (not config.tied_head) + V * config.head_bias + _counted_matrices(config)
    head += config.ngram.counted  # the biases of the mixture
    blocks = config.n_layers * (_block_matrices(config) + _block_biases(config))
    return embeddings + blocks + norms * _norm(config) + head


def matmul_parameters(config: GPTConfig | TransformerConfig) -> int:
    """The weights that every token is multiplied by: the blocks' matrices and the head (tied or not).

    Of an encoder–decoder: by which a token of the source and one of the target are multiplied, together. Looking up a
    row of an embedding multiplies nothing; biases and gains are added or scaled with, once a number.
    """
    if isinstance(config, TransformerConfig):
        return encoder_matrices(config) + decoder_matrices(config)
    head = config.d_model * config.vocab_size + _counted_matrices(config)
    return config.n_layers * _block_matrices(config) + head


def flops_per_token(config: GPTConfig | TransformerConfig, context_length: int | None = None) -> float:
    """Of training: 6 × matmul parameters + 12·L·T·C; of an encoder–decoder for a token of the target and one of the
    source, with three attentions a layer over sentences of `SENTENCE` tokens.

    A weight costs one multiplication and one addition forward and twice that backward (Kaplan et al.
    2020, §2.1). The second term is Q·Kᵀ and pattern·V, 2·2·T·C a layer forward, counted in full although
    half of it is masked (Chowdhery et al. 2022, appendix B): the convention in which shares of peak are
    compared.
    """
    if isinstance(config, TransformerConfig):
        attended = 18.0 * config.n_layers * SENTENCE * config.n_heads * (config.key_width + config.d_v)
        return 6.0 * matmul_parameters(config) + attended
    T = context_length or config.context_length
    return 6.0 * matmul_parameters(config) + 12.0 * config.n_layers * T * config.d_model


@dataclass(frozen=True)
class TrainingBytes:
    """What has to be in memory while training, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it together."""
        return self.weights + self.gradients + self.optimizer + self.activations


def training_bytes(
    config: GPTConfig | TransformerConfig,
    batch_size: int,
    context_length: int | None = None,
    *,
    optimizer: Literal["adamw", "muon"] = "adamw",
    logits: int | None = None,
) -> TrainingBytes:
    """For `batch_size` sequences computed at once: with gradient accumulation, the micro-batch. Of an encoder–decoder
    for so many places of the source, and of the target.

    logits: the most numbers that are held of them, where the loss is computed in chunks (`kernels/cross_entropy`).
    """
    P = parameters(config)
    if isinstance(config, TransformerConfig):
        in_blocks = matmul_parameters(config) - config.d_model * config.vocab_size
        activations = _pair_activations(config, batch_size, logits)
    else:
        in_blocks = config.n_layers * _block_matrices(config)
        activations = activation_bytes(config, batch_size, context_length, logits=logits)
    with_momentum = in_blocks if optimizer == "muon" else 0
    return TrainingBytes(
        weights=P * FLOAT,
        gradients=P * FLOAT,
        optimizer=(2 * (P - with_momentum) + with_momentum) * FLOAT,  # AdamW: two moments; Muon: one
        activations=activations,
    )


def activation_bytes(
    config: GPTConfig, batch_size: int, context_length: int | None = None, *, logits: int | None = None
) -> int:
    """About what the forward pass keeps for the backward pass, in float32; of long rows attention keeps no table."""
    T = context_length or config.context_length
    C, V, KV = config.d_model, config.vocab_size, config.kv_heads * config.d_head
    norms = 2 * C * (2 if config.norm != "none" else 1)  # what each sublayer reads, before and after its norm
    q_k_v = C + 2 * KV + (C + KV) * ((config.positions == "rotary") + config.qk_norm)
    hidden = {"relu": 1, "gelu": 2, "relu2": 2, "swiglu": 4}[config.activation] * config.feed_forward_width
    masks = (
        C * ((config.attention_dropout > 0) + (config.feed_forward_dropout > 0)) / FLOAT
    )  # a byte each, as on a GPU
    layer = norms + q_k_v + C + hidden + masks
    outside = 2 * C  # the final norm
    if config.ngram.counted:
        outside += (config.ngram.counted + 1) * V  # log p of each order, and what goes in
    held = batch_size * T * 2 * V  # logits and their log-probabilities
    if logits is not None and held > logits:
        held = logits + C * V  # and the head's gradient, which is there from the forward pass on
    weights = batch_size * config.n_heads * T * T
    if config.pattern_dropout and (T * T <= SMALL_TABLE or weights <= FEW_WEIGHTS):
        held += config.n_layers * 2 * weights
    return round((batch_size * T * (config.n_layers * layer + outside) + held) * FLOAT)


def _pair_activations(config: TransformerConfig, places: int, logits: int | None) -> int:
    """About what is kept for the backward pass, of so many places of the source and of the target.

    A layer of the encoder has two sublayers, one of the decoder three; each keeps what it reads and its norm's output.
    """
    C, V = config.d_model, config.vocab_size
    heads = config.n_heads * (config.key_width + config.d_v)
    patterns = 3 * config.n_heads * SENTENCE
    layer = 2 * C * 5 + 3 * (heads + C) + 2 * config.d_ff + patterns + 5 * C * (config.dropout > 0)
    held = places * 2 * V
    if logits is not None and held > logits:
        held = logits + C * V
    return round((places * (config.n_layers * layer + 2 * C) + held) * FLOAT)


def cache_bytes(config: GPTConfig | TransformerConfig, batch_size: int = 1) -> int:
    """Keys and values of a full context, for `batch_size` sequences; of an encoder–decoder, of both languages."""
    if isinstance(config, TransformerConfig):
        width = config.n_heads * (config.key_width + config.d_v)
        return 2 * config.n_layers * batch_size * config.context_length * width * FLOAT
    T, KV = config.context_length, config.kv_heads * config.d_head
    return 2 * config.n_layers * batch_size * T * KV * FLOAT


def _block_matrices(config: GPTConfig) -> int:
    C, F, KV = config.d_model, config.feed_forward_width, config.kv_heads * config.d_head
    attention = C * (C + 2 * KV) + C * C * config.attention_output
    return attention + C * F * (3 if config.activation == "swiglu" else 2)


def _counted_matrices(config: GPTConfig) -> int:
    """Counted predictions go in through one matrix and are mixed by another."""
    return config.d_model * (config.vocab_size + config.ngram.counted) if config.ngram.counted else 0


def _block_biases(config: GPTConfig) -> int:
    C, F, KV = config.d_model, config.feed_forward_width, config.kv_heads * config.d_head
    of_all = C * config.attention_output + F * (2 if config.activation == "swiglu" else 1) + C
    return (C + 2 * KV) * config.has_qkv_bias + of_all * config.bias


def _norm(config: GPTConfig) -> int:
    """One norm: a gain, and LayerNorm's shift."""
    shift = config.bias and config.norm_type == "layernorm"
    return config.d_model * config.norm_gain * (1 + shift)


def encoder_matrices(config: TransformerConfig) -> int:
    """The weights that every token of the source is multiplied by: its layers, and the keys and values made of it."""
    of_keys_and_values = config.d_model * config.n_heads * (config.key_width + config.d_v)
    return config.n_layers * (
        _attention_matrices(config) + _feed_forward_matrices(config) + of_keys_and_values
    )


def decoder_matrices(config: TransformerConfig) -> int:
    """The weights that every token of the target is multiplied by: its layers, and the head."""
    of_queries_and_output = config.d_model * config.n_heads * (config.key_width + config.d_v)
    layers = _attention_matrices(config) + of_queries_and_output + _feed_forward_matrices(config)
    return config.n_layers * layers + config.d_model * config.vocab_size


def _of_transformer(config: TransformerConfig) -> int:
    C, L = config.d_model, config.n_layers
    matrices = encoder_matrices(config) + decoder_matrices(config)  # the head is the embedding, counted once
    keys = config.n_heads * config.key_width
    biases = 2 * L * (config.d_ff + C) + config.attention_bias * 3 * L * (2 * keys + 2 * C)
    norms = 2 * C * (5 * L + 2 * (config.norm == "pre"))
    return matrices + biases + norms + config.context_length * C * (config.positions == "learned")


def _attention_matrices(config: TransformerConfig) -> int:
    return config.d_model * config.n_heads * 2 * (config.key_width + config.d_v)


def _feed_forward_matrices(config: TransformerConfig) -> int:
    return 2 * config.d_model * config.d_ff
