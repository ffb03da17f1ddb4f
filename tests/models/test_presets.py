"""GPT-2's sizes, against the counts that were published and the outsider's own configuration."""

from dataclasses import replace

import pytest
from transformers import GPT2Config

from primer.errors import UsageError
from primer.models.config import PRESETS, GPTConfig
from primer.models.count import parameters

PUBLISHED = {
    "gpt2": (124_439_808, 12, 12, 768),
    "gpt2-medium": (354_823_168, 24, 16, 1024),
    "gpt2-large": (774_030_080, 36, 20, 1280),
    "gpt2-xl": (1_557_611_200, 48, 25, 1600),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_published_sizes(name: str) -> None:
    config = GPTConfig.preset(name)
    assert (parameters(config), config.n_layers, config.n_heads, config.d_model) == PUBLISHED[name]


def test_everything_else_is_as_transformers_has_it() -> None:
    theirs, ours = GPT2Config(), GPTConfig.preset("gpt2")
    assert (ours.vocab_size, ours.context_length) == (theirs.vocab_size, theirs.n_positions)
    assert (ours.norm_eps, ours.init_std) == (theirs.layer_norm_epsilon, theirs.initializer_range)
    assert (ours.tied_head, ours.activation) == (theirs.tie_word_embeddings, "gelu")
    assert (ours.norm, ours.norm_type, ours.positions, ours.bias) == ("pre", "layernorm", "learned", True)
    assert (ours.has_qkv_bias, ours.head_bias, ours.init) == (True, False, "gpt2")


def test_changes_are_laid_over_a_preset() -> None:
    changed = GPTConfig.preset("gpt2-xl", context_length=64, d_model=800, pattern_dropout=0.1)
    expected = replace(GPTConfig.preset("gpt2-xl"), context_length=64, d_model=800, pattern_dropout=0.1)
    assert changed == expected
    with pytest.raises(UsageError, match=r"model\.d_model=7 does not divide"):
        GPTConfig.preset("gpt2", d_model=7)


@pytest.mark.parametrize(("word", "near"), [("gpt2-x1", "gpt2-xl"), ("gpt2_medium", "gpt2-medium")])
def test_an_unknown_preset_names_the_nearest(word: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"unknown preset '{word}'") as caught:
        GPTConfig.preset(word)
    assert caught.value.hint == near
    with pytest.raises(UsageError) as caught:
        GPTConfig.preset("zzzzz")
    assert caught.value.hint == "one of gpt2, gpt2-medium, gpt2-large, gpt2-xl"
