"""A GPT-2 in Hugging Face's words, beside ours: its settings (config.json), and the names of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from primer.config import fit
from primer.errors import DataError, UsageError
from primer.models.config import GPTConfig
from primer.tokens.tokenizer import END_OF_TEXT, Tokenizer

SIZES = {
    "vocab_size": ("vocab_size", 50257),
    "n_positions": ("context_length", 1024),
    "n_embd": ("d_model", 768),
    "n_layer": ("n_layers", 12),
    "n_head": ("n_heads", 12),
}
"""Their word → ours, and what it is where config.json leaves it out."""

ALIASES = {
    "n_positions": "max_position_embeddings",
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
}
"""Words that transformers takes for the same."""

ACTIVATIONS = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_python_tanh": "gelu",
    "relu": "relu",
    "relu2": "relu2",
}
"""Their name → ours; the one that is written comes first. Their "gelu" is the exact one, .0005 away from ours."""

MUST_BE = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "quantization_config": None,
}
"""Settings that change what is computed, with the only value that this GPT computes."""

CAN_BE: dict[str, tuple[Any, ...]] = {
    "norm": ("pre",),
    "norm_type": ("layernorm",),
    "positions": ("learned",),
    "activation": tuple(dict.fromkeys(ACTIVATIONS.values())),
    "head_bias": (False,),
    "embedding_norm": (False,),
    "qk_norm": (False,),
    "attention_gain": (1.0,),
    "logit_soft_cap": (0.0,),
    "attention_output": (True,),
}
"""Options of ours with the values that GPT-2's format can hold; a bias or gain that is not there is one of 0 or 1."""

IN_A_LAYER = {
    "ln_1": "attention_norm",
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.output",
    "ln_2": "feed_forward_norm",
    "mlp.c_fc": "feed_forward.expand",
    "mlp.c_proj": "feed_forward.contract",
}
"""Their module → ours. c_attn holds queries, keys and values in the order in which `qkv` does."""

MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
"""Old files hold the causal mask as well, which is no weight."""


def to_config(settings: Mapping[str, Any], where: str) -> GPTConfig:
    """Our options for what a config.json says. DataError where it is of no GPT-2, or of one that this is not."""
    if settings.get("model_type") != "gpt2":
        raise DataError(
            f"this is no GPT-2: its model_type is {settings.get('model_type')!r}",
            where=where,
            hint="another model: this exchange reads GPT-2 and its kin",
        )
    for name, only in MUST_BE.items():
        if settings.get(name, only) != only:
            raise DataError(
                f"{name} is {str(settings[name])[:60]}, and this GPT knows nothing but {only}",
                where=where,
                hint="another model: weights that were trained so would compute something else here",
            )
    try:
        return _config(settings)
    except UsageError as error:
        raise DataError(error.cause, where, "the config.json that belongs to these weights") from error


def _config(settings: Mapping[str, Any]) -> GPTConfig:
    def given(kind: Any, name: str, usual: Any) -> Any:
        alias = ALIASES.get(name, name)
        return fit(kind, settings.get(name, settings.get(alias, usual)), name, None)

    sizes = {ours: given(int, theirs, usual) for theirs, (ours, usual) in SIZES.items()}
    for theirs, (ours, _) in SIZES.items():
        if sizes[ours] < 1:
            raise UsageError(f"{theirs} must be at least 1, got {sizes[ours]}")
    activation = given(str, "activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        exact = ", which is the exact GELU and not GPT-2's" if activation == "gelu" else ""
        raise UsageError(f"activation_function is {activation!r}{exact}; known are {', '.join(ACTIVATIONS)}")
    inner = given(int | None, "n_inner", None)
    beside = given(float, "resid_pdrop", 0.1)
    return GPTConfig(
        **sizes,
        d_ff=inner or 0,
        norm_eps=given(float, "layer_norm_epsilon", 1e-5),
        activation=ACTIVATIONS[activation],  # type: ignore[arg-type]  # mypy sees any str here
        tied_head=given(bool, "tie_word_embeddings", True),
        embedding_dropout=given(float, "embd_pdrop", 0.1),
        pattern_dropout=given(float, "attn_pdrop", 0.1),
        attention_dropout=beside,
        feed_forward_dropout=beside,
        init_std=given(float, "initializer_range", 0.02),
    )


def refuse_what_it_cannot_hold(config: GPTConfig) -> None:
    """UsageError that lists the options of a model which GPT-2's format has no place for."""
    wrong = {
        name: getattr(config, name)
        for name, fitting in CAN_BE.items()
        if getattr(config, name) not in fitting
    }
    instead: dict[str, Any] = {name: CAN_BE[name][0] for name in wrong}
    if config.kv_heads != config.n_heads:
        wrong["n_kv_heads"], instead["n_kv_heads"] = config.n_kv_heads, 0
    if config.attention_scale == "d_model" and config.n_heads > 1:
        wrong["attention_scale"], instead["attention_scale"] = "d_model", "d_head"
    if config.ngram.orders:
        wrong["ngram.orders"], instead["ngram.orders"] = config.ngram.orders, ""
    if config.ngram.counted:
        wrong["ngram.counted"], instead["ngram.counted"] = config.ngram.counted, 0
    if wrong:
        named = ", ".join(f"model.{name}={_shown(value)}" for name, value in wrong.items())
        flags = " ".join(
            f"--model.{name.replace('_', '-')}={_shown(value)}" for name, value in instead.items()
        )
        raise UsageError(f"GPT-2's format cannot hold {named}", hint=f"a run that is trained with {flags}")


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_settings(config: GPTConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json of a model that GPT-2's format can hold, with the vocabulary of its tokenizer.

    resid_pdrop is one number for two of ours: the larger. A text begins and ends with the end-of-text token, if any.
    """
    theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{name: getattr(config, ours) for name, (ours, _) in SIZES.items()},
        "vocab_size": tokenizer.vocab_size,
        "n_ctx": config.context_length,  # what n_positions was called before
        "n_inner": config.d_ff or None,
        "activation_function": theirs[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        "embd_pdrop": config.embedding_dropout,
        "attn_pdrop": config.pattern_dropout,
        "resid_pdrop": max(config.attention_dropout, config.feed_forward_dropout),
        "initializer_range": config.init_std or 0.02,
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": end,
        "eos_token_id": end,
    }


def names(n_layers: int, *, tied: bool) -> Iterator[tuple[str, str]]:
    """(their name, ours) of every weight; theirs without the "transformer." that all but the head may begin with."""
    yield "wte.weight", "token_embedding.weight"
    yield "wpe.weight", "position_embedding.weight"
    for i in range(n_layers):
        for theirs, ours in IN_A_LAYER.items():
            for part in ("weight", "bias"):
                yield f"h.{i}.{theirs}.{part}", f"layers.{i}.{ours}.{part}"
    yield "ln_f.weight", "final_norm.weight"
    yield "ln_f.bias", "final_norm.bias"
    if not tied:
        yield "lm_head.weight", "head.weight"


def is_transposed(theirs: str) -> bool:
    """Whether a weight is of their Conv1D, which keeps (inputs, outputs) where a Linear keeps (outputs, inputs)."""
    return ".c_" in theirs and theirs.endswith(".weight")
