"""What is read from Hugging Face computes the same here, what is written the same there; nothing else is believed."""

import json
import logging
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel, GPT2Model

from gpt2s import Folder, same_logits
from primer.errors import DataError, PrimerError, UsageError
from primer.exchange.gpt2 import refuse_what_it_cannot_hold, to_config, to_settings
from primer.exchange.huggingface import read_gpt2, write_gpt2
from primer.exchange.tensors import hashes
from primer.models.config import GPTConfig, NGramConfig
from primer.models.gpt import GPT
from primer.nn.feed_forward import gelu
from primer.tokens.char import CharTokenizer


def model_of(config: GPTConfig, weights: dict[str, Tensor]) -> GPT:
    model = GPT(config).eval()
    named = dict(model.named_parameters())
    assert named.keys() == weights.keys()
    with torch.no_grad():
        for name, p in named.items():
            p.copy_(weights[name])
    return model


def letters(count: int) -> CharTokenizer:
    return CharTokenizer("".join(chr(ord("a") + number) for number in range(count)))


SHAPES: dict[str, dict[str, Any]] = {
    "as released": {},
    "one head": {"n_head": 1, "n_layer": 1},
    "four heads": {"n_head": 4, "vocab_size": 37},
    "another width inside": {"n_inner": 20, "n_head": 4},
    "another epsilon": {"layer_norm_epsilon": 0.3, "n_positions": 17},
    "a head of its own": {"tie_word_embeddings": False, "vocab_size": 5},
    "relu": {"activation_function": "relu"},
    "relu squared": {"activation_function": "relu2"},
    "the same gelu by another name": {"activation_function": "gelu_pytorch_tanh"},
}


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_logits_are_the_same_in_both_directions(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = Folder(tmp_path / "theirs", **changes)
    config, weights = read_gpt2(folder.path)
    same_logits(model_of(config, weights), folder.model)

    write_gpt2(tmp_path / "ours", config, weights, letters(config.vocab_size))
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "ours").eval()
    same_logits(model_of(config, weights), again)
    for (name, a), (_, b) in zip(folder.model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    read, _ = read_gpt2(tmp_path / "ours")
    assert read == config
    assert len({file.stat().st_mode for file in (tmp_path / "ours").iterdir()}) == 1, (
        "others may read all or none"
    )


def test_a_model_of_ours_computes_the_same_there(tmp_path: Path) -> None:
    """Without gains and biases too: a zero that is added changes nothing."""
    for number, changes in enumerate(
        (
            {},
            {"bias": False},
            {"norm_gain": False},
            {"qkv_bias": False},
            {"tied_head": True, "n_heads": 1, "attention_scale": "d_model"},
        )
    ):
        torch.manual_seed(0)
        sizes: dict[str, Any] = {
            "vocab_size": 7,
            "context_length": 9,
            "d_model": 12,
            "n_layers": 2,
            "n_heads": 4,
        }
        ours = GPT(GPTConfig(**(sizes | {"init_std": 0.4} | changes))).eval()
        with torch.no_grad():
            for p in ours.parameters():
                p.add_(torch.randn_like(p) * 0.3)
        out = tmp_path / str(number)
        write_gpt2(out, ours.config, dict(ours.named_parameters()), letters(7))
        same_logits(ours, GPT2LMHeadModel.from_pretrained(out).eval())


def test_a_vocabulary_that_was_rounded_up_is_cut(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for number, tied in enumerate((True, False)):
        sizes: dict[str, Any] = {"context_length": 9, "d_model": 12, "n_layers": 1, "n_heads": 2}
        ours = GPT(GPTConfig(vocab_size=16, tied_head=tied, init_std=0.4, **sizes)).eval()
        out = tmp_path / str(number)
        write_gpt2(out, ours.config, dict(ours.named_parameters()), letters(11))
        there = GPT2LMHeadModel.from_pretrained(out).eval()
        assert there.config.vocab_size == 11
        tokens = torch.randint(11, (2, 9))
        assert (ours(tokens)[..., :11] - there(tokens).logits).abs().max() < 1e-5
        with pytest.raises(UsageError, match="a model of 16 tokens with a tokenizer of 17"):
            write_gpt2(tmp_path / "no", ours.config, dict(ours.named_parameters()), letters(17))


def prefixless(folder: Folder) -> None:
    folder.put({name.removeprefix("transformer."): tensor for name, tensor in folder.tensors.items()})


def as_the_base_model(folder: Folder) -> None:
    base: GPT2Model = folder.model.transformer
    base.save_pretrained(folder.path)


def with_masks(folder: Folder) -> None:
    masks = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 9, 9).tril() for i in range(2)}
    masks |= {f"transformer.h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}
    folder.put(folder.tensors | masks)


def with_the_head_as_well(folder: Folder) -> None:
    folder.put(folder.tensors | {"lm_head.weight": folder.tensors["transformer.wte.weight"]})


def with_the_head_instead(folder: Folder) -> None:
    tensors = folder.tensors
    folder.put(tensors | {"lm_head.weight": tensors.pop("transformer.wte.weight")})


def in_shards(folder: Folder) -> None:
    (folder.path / "model.safetensors").unlink()
    folder.model.save_pretrained(folder.path, max_shard_size="2KB")
    assert len(list(folder.path.glob("model-*-of-*.safetensors"))) > 2


def with_old_settings(folder: Folder) -> None:
    """As the first GPT-2 of the hub: n_ctx beside n_positions, and nothing that came later."""
    new = (
        "n_inner",
        "activation_function",
        "scale_attn_weights",
        "reorder_and_upcast_attn",
        "tie_word_embeddings",
    )
    folder.set(n_ctx=9, **dict.fromkeys((*new, "scale_attn_by_inverse_layer_idx", "dtype"), ...))


def with_words_of_all_models(folder: Folder) -> None:
    folder.set(
        n_embd=..., hidden_size=12, n_head=..., num_attention_heads=3, n_layer=..., num_hidden_layers=2
    )


WAYS = [
    prefixless, as_the_base_model, with_masks, with_the_head_as_well, with_the_head_instead, in_shards,
    with_old_settings, with_words_of_all_models,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_keeping_the_same_model_is_read(way: Callable[[Folder], None], tmp_path: Path) -> None:
    folder = Folder(tmp_path / "theirs")
    plain = read_gpt2(folder.path)
    way(folder)
    config, weights = read_gpt2(folder.path)
    assert config == plain[0]
    assert weights.keys() == plain[1].keys()
    assert all(torch.equal(weights[name], plain[1][name]) for name in weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_weights_are_kept_in_float32_and_that_is_said(
    dtype: torch.dtype, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Folder(tmp_path / "theirs")
    folder.put({name: tensor.to(dtype) for name, tensor in folder.tensors.items()})
    with caplog.at_level(logging.WARNING):
        config, weights = read_gpt2(folder.path)
    assert f"the weights are {str(dtype).removeprefix('torch.')} in the file" in caplog.text
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    narrow = GPT2LMHeadModel.from_pretrained(folder.path, dtype=torch.float32).eval()
    same_logits(model_of(config, weights), narrow)


def test_dropout_comes_along(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "theirs", embd_pdrop=0.1, attn_pdrop=0.2, resid_pdrop=0.3)
    config, _ = read_gpt2(folder.path)
    found = (config.embedding_dropout, config.pattern_dropout)
    assert found == (0.1, 0.2)
    assert (config.attention_dropout, config.feed_forward_dropout) == (0.3, 0.3)
    uneven = to_settings(replace(config, attention_dropout=0.0), letters(11))
    assert [uneven[name] for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop")] == [0.1, 0.2, 0.3]


def test_what_is_fed_back_is_the_same_model() -> None:
    config = GPTConfig.preset("gpt2", d_ff=100, norm_eps=1e-6, init_std=0.01, activation="relu")
    assert to_config(to_settings(config, letters(11)), "here") == replace(config, vocab_size=11)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another family": ({"model_type": "llama"}, "this is no GPT-2: its model_type is 'llama'"),
    "no family": ({"model_type": ...}, "this is no GPT-2: its model_type is None"),
    "scores divided by the layer": (
        {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True",
    ),
    "scores not scaled": ({"scale_attn_weights": False}, "scale_attn_weights is False"),
    "scores in another order": ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn is True"),
    "an encoder beside it": ({"add_cross_attention": True}, "add_cross_attention is True"),
    "packed weights": ({"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}"),
    "the exact GELU": ({"activation_function": "gelu"}, "'gelu', which is the exact GELU and not GPT-2's"),
    "another bend": ({"activation_function": "silu"}, "activation_function is 'silu'; known are gelu_new"),
    "a word for a number": ({"n_layer": "two"}, "n_layer must be a whole number, got 'two'"),
    "a truth value for a number": ({"n_layer": True}, "n_layer must be a whole number, got true"),
    "a fraction of a head": ({"n_head": 1.5}, "n_head must be a whole number"),
    "a negative size": ({"n_embd": -12}, "n_embd must be at least 1, got -12"),
    "a size of zero": ({"n_layer": 0}, "n_layer must be at least 1, got 0"),
    "a negative width": ({"n_inner": -1}, "must not be negative"),
    "a size without end": ({"n_embd": 10**30}, "n_embd must be a number of at most 64 bits"),
    "a huge size": ({"n_positions": 1 << 25}, "must be at most 16,777,216"),
    "a huge depth": ({"n_layer": 1 << 24}, "the weights lack h.2.ln_1.weight"),
    "heads that do not divide": ({"n_head": 5}, "d_model=12 does not divide by model.n_heads=5"),
    "no epsilon": ({"layer_norm_epsilon": 0}, "norm_eps must be a positive number"),
    "an epsilon that is none": ({"layer_norm_epsilon": float("nan")}, "must be a finite number"),
    "all dropped": ({"attn_pdrop": 1.0}, "pattern_dropout must lie in [0, 1)"),
    "another depth": ({"n_layer": 1}, "the weights have h.1."),
    "another width": ({"n_embd": 24}, "wte.weight has the shape (11, 12), and config.json asks for (11, 24)"),
    "another width inside": ({"n_inner": 24}, "h.0.mlp.c_fc.weight has the shape (12, 48), and config.json asks"),
    "another context": ({"n_positions": 8}, "wpe.weight has the shape (9, 12), and config.json asks for (8, 12)"),
    "another vocabulary": ({"vocab_size": 12}, "wte.weight has the shape (11, 12)"),
    "a head that is not there": ({"tie_word_embeddings": False}, "the weights lack lm_head.weight"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "cause"), REFUSED.values(), ids=REFUSED.keys())
def test_settings_that_this_gpt_has_not_are_refused_by_name(
    changes: dict[str, Any], cause: str, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "theirs")
    folder.set(**changes)
    with pytest.raises(DataError) as caught:
        read_gpt2(folder.path)
    assert cause in caught.value.cause
    assert str(folder.path) in str(caught.value.where)
    assert caught.value.hint


def test_the_exact_gelu_is_not_ours() -> None:
    x = torch.linspace(-6, 6, 100_001, dtype=torch.float64)
    assert 4e-4 < (gelu(x) - F.gelu(x)).abs().max() < 5e-4


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Folder], None]:
    return lambda folder: folder.put({**folder.tensors, name: change(folder.tensors[name])})


def without(*names: str) -> Callable[[Folder], None]:
    return lambda folder: folder.put({k: t for k, t in folder.tensors.items() if k not in names})


def written(file: str, content: bytes) -> Callable[[Folder], object]:
    return lambda folder: (folder.path / file).write_bytes(content)


def removed(file: str) -> Callable[[Folder], object]:
    return lambda folder: (folder.path / file).unlink()


def piped(file: str) -> Callable[[Folder], object]:
    def make(folder: Folder) -> None:
        (folder.path / file).unlink()
        os.mkfifo(folder.path / file)

    return make


def piped_shard(folder: Folder) -> None:
    in_shards(folder)
    piped(next(folder.path.glob("model-00002-*")).name)(folder)


def as_a_pickle(folder: Folder) -> None:
    (folder.path / "model.safetensors").unlink()
    torch.save(folder.model.state_dict(), folder.path / "pytorch_model.bin")


def indexed(weight_map: Any) -> Callable[[Folder], None]:
    def make(folder: Folder) -> None:
        (folder.path / "model.safetensors").rename(folder.path / "model-00001-of-00001.safetensors")
        (folder.path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return make


def promised_elsewhere(folder: Folder) -> None:
    in_shards(folder)
    index = folder.path / "model.safetensors.index.json"
    table = json.loads(index.read_text())["weight_map"]
    name, other = (
        "transformer.wte.weight",
        next(iter(set(table.values()) - {table["transformer.wte.weight"]})),
    )
    index.write_text(json.dumps({"weight_map": {**table, name: other}}))


def without_a_shard(folder: Folder) -> None:
    in_shards(folder)
    next(folder.path.glob("model-00002-*")).unlink()


H0, H1 = "transformer.h.0", "transformer.h.1"
DAMAGED: dict[str, tuple[Callable[[Folder], object], str]] = {
    "a weight is missing": (without(f"{H1}.attn.c_attn.weight"), "the weights lack h.1.attn.c_attn.weight"),
    "several are missing": (
        without(*(f"{H1}.{name}.bias" for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc"))),
        "the weights lack h.1.ln_1.bias, h.1.attn.c_attn.bias, h.1.attn.c_proj.bias and more",
    ),
    "no embedding": (without("transformer.wte.weight"), "the weights lack wte.weight"),
    "a weight too many": (
        lambda f: f.put({**f.tensors, "score.weight": torch.zeros(2, 12)}), "the weights have score.weight",
    ),
    "a head's bias": (
        lambda f: f.put({**f.tensors, "lm_head.bias": torch.zeros(11)}), "the weights have lm_head.bias",
    ),
    "two with the same name": (
        lambda f: f.put({**f.tensors, "wte.weight": torch.zeros(11, 12)}), "wte.weight is there twice",
    ),
    "another head than the embedding": (
        lambda f: f.put({**f.tensors, "lm_head.weight": torch.zeros(11, 12)}), "lm_head.weight is not wte.weight",
    ),
    "transposed": (changed(f"{H0}.mlp.c_fc.weight", lambda t: t.T), "c_fc.weight has the shape (48, 12)"),
    "a row too many": (changed("transformer.wpe.weight", lambda t: torch.cat([t, t[:1]])), "has the shape (10, 12)"),
    "an axis too many": (changed(f"{H0}.ln_1.bias", lambda t: t[None]), "has the shape (1, 12)"),
    "not a number": (
        changed(f"{H1}.ln_2.weight", lambda t: t * torch.nan), "h.1.ln_2.weight contains a number that is not finite",
    ),
    "infinite": (changed("transformer.wte.weight", lambda t: t / 0), "not finite"),
    "whole numbers": (changed(f"{H0}.ln_1.bias", lambda t: t.to(torch.int8)), "h.0.ln_1.bias holds I8"),
    "more digits than fit": (changed(f"{H0}.ln_1.bias", lambda t: t.double()), "h.0.ln_1.bias holds F64"),
    "a pickle": (as_a_pickle, "the weights here are a pickle"),
    "no weights": (removed("model.safetensors"), "no model.safetensors is here"),
    "empty weights": (written("model.safetensors", b""), "this is no safetensors file"),
    "a header without end": (written("model.safetensors", b"\xff" * 64), "this is no safetensors file"),
    "a pickle under another name": (written("model.safetensors", b"\x80\x04K*." * 99), "this is no safetensors file"),
    "a pointer to weights": (
        written("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "only says where",
    ),
    "a pipe for settings": (piped("config.json"), "no config.json is here"),
    "a pipe for weights": (piped("model.safetensors"), "no model.safetensors is here"),
    "a pipe for a shard": (piped_shard, "there is no such file"),
    "no settings": (removed("config.json"), "no config.json is here"),
    "empty settings": (written("config.json", b""), "this is no JSON"),
    "half the settings": (written("config.json", b'{"n_head": 3, '), "this is no JSON"),
    "settings in another encoding": (written("config.json", '{"a": "é"}'.encode("latin-1")), "is not UTF-8"),
    "settings nested without end": (written("config.json", b"[" * 200_000), "this is no JSON"),
    "a list of settings": (written("config.json", b"[1]"), "this JSON is no object"),
    "an empty index": (indexed({}), "the index has no weight_map"),
    "an index of numbers": (indexed({"transformer.wte.weight": 1}), "the index has no weight_map"),
    "an index that leads out": (indexed({"x": "../model.safetensors"}), "the index leads out of the folder"),
    "an index that leads to the root": (indexed({"x": "/x.safetensors"}), "the index leads out of the folder"),
    "an index that leads to a pickle": (indexed({"x": "x.bin"}), "the index leads out of the folder"),
    "an index that leads nowhere": (indexed({"x": "x.safetensors"}), "there is no such file"),
    "an index of other weights": (
        indexed({"x": "model-00001-of-00001.safetensors"}), "is not where model.safetensors.index.json says",
    ),
    "a weight in another shard": (promised_elsewhere, "is not where model.safetensors.index.json says"),
    "a shard is missing": (without_a_shard, "there is no such file"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "cause"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_folder_that_is_damaged_is_refused(
    damage: Callable[[Folder], object], cause: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if os.name == "nt" and "pipe" in request.node.name:
        pytest.skip("Windows has no such pipes")
    folder = Folder(tmp_path / "theirs")
    damage(folder)
    with pytest.raises(DataError) as caught:
        read_gpt2(folder.path)
    assert cause in caught.value.cause
    assert str(folder.path) in str(caught.value.where)
    assert caught.value.hint


def test_any_truncation_is_refused_and_no_mutation_is_a_crash(tmp_path: Path) -> None:
    """A flipped bit of a weight cannot be seen, for these files carry no checksum; one in the header can."""
    folder = Folder(tmp_path / "theirs", n_layer=1, n_embd=3)
    file = folder.path / "model.safetensors"
    good, chance, refused = file.read_bytes(), random.Random(0), 0
    header = 8 + int.from_bytes(good[:8], "little")
    config, weights = read_gpt2(folder.path)
    for trial in range(300):
        bad = bytearray(good)
        if trial % 3 == 0:
            del bad[chance.randrange(len(bad)) :]
        else:
            bad[chance.randrange(header)] ^= 1 << chance.randrange(8)
        file.write_bytes(bad)
        try:
            found, mutated = read_gpt2(folder.path)
        except PrimerError as error:
            assert str(folder.path) in str(error.where)  # noqa: PT017
            refused += 1
            continue
        assert trial % 3, "a file that was cut short was believed"
        assert found == config
        assert {name: t.shape for name, t in mutated.items()} == {
            name: t.shape for name, t in weights.items()
        }
    assert refused > 250


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text("aé1", max_size=3)
    | st.lists(st.integers(), max_size=2)
)
WORDS = st.sampled_from(
    sorted({*to_settings(GPTConfig.preset("gpt2"), letters(11)), "hidden_size", "quantization_config"})
)


@given(changes=st.dictionaries(WORDS, VALUES, max_size=3))
@settings(settings.get_profile("ci"), max_examples=200)
def test_whatever_the_settings_say_it_is_a_model_or_an_error(changes: dict[str, Any]) -> None:
    said = to_settings(GPTConfig.preset("gpt2"), letters(11)) | changes
    try:
        config = to_config(said, "here")
    except DataError as error:
        assert (error.where, bool(error.hint)) == ("here", True)  # noqa: PT017
        return
    for theirs_, ours in (("n_layer", "n_layers"), ("n_head", "n_heads"), ("vocab_size", "vocab_size")):
        assert getattr(config, ours) == said[theirs_]


CANNOT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "norm": ({"norm": "post"}, ["model.norm=post"]),
    "no norm": ({"norm": "none"}, ["model.norm=none"]),
    "norm type": ({"norm_type": "rmsnorm"}, ["model.norm_type=rmsnorm"]),
    "positions": ({"positions": "rotary"}, ["model.positions=rotary"]),
    "activation": ({"activation": "swiglu"}, ["model.activation=swiglu"]),
    "head's bias": ({"head_bias": True}, ["model.head_bias=true"]),
    "embedding norm": ({"embedding_norm": True}, ["model.embedding_norm=true"]),
    "shared heads": ({"n_kv_heads": 1}, ["model.n_kv_heads=1"]),
    "qk norm": ({"qk_norm": True, "attention_gain": 1.4}, ["model.qk_norm=true", "model.attention_gain=1.4"]),
    "soft cap": ({"logit_soft_cap": 15.0}, ["model.logit_soft_cap=15.0"]),
    "scale": ({"attention_scale": "d_model"}, ["model.attention_scale=d_model"]),
    "no projection": ({"attention_output": False}, ["model.attention_output=false"]),
    "hashed": ({"ngram": NGramConfig(orders=(2, 3))}, ["model.ngram.orders=(2, 3)"]),
    "counted": ({"ngram": NGramConfig(counted=3)}, ["model.ngram.counted=3"]),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "named"), CANNOT.values(), ids=CANNOT.keys())
def test_what_the_format_cannot_hold_is_listed_with_a_way_out(
    changes: dict[str, Any], named: list[str], tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {"vocab_size": 7, "context_length": 9, "d_model": 12, "n_layers": 1, "n_heads": 2}
    config = GPTConfig(**(sizes | changes))
    with pytest.raises(UsageError) as caught:
        write_gpt2(tmp_path / "out", config, dict(GPT(config).named_parameters()), letters(7))
    assert caught.value.cause == f"GPT-2's format cannot hold {', '.join(named)}"
    from primer.cli.flags import parse
    from primer.cli.train import VERB
    from primer.recipes.resolve import resolve

    assert caught.value.hint is not None
    flags = [word for word in caught.value.hint.split(" ") if word.startswith("--")]
    beneath = ("run", {"model": {**sizes, **{k: v for k, v in changes.items() if k != "ngram"}}})
    way_out = resolve(None, beneath_flags=beneath, flags=parse(VERB, flags).flags).config.model
    for name in changes:
        if name != "ngram":
            assert getattr(way_out, name) == getattr(GPTConfig(), name), flags
    assert not list(tmp_path.iterdir())


def test_every_option_of_ours_is_known_to_the_format() -> None:
    """Whoever adds an option to GPTConfig must say here whether GPT-2's format can hold it."""
    held = {
        "vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff", "norm_eps", "bias", "qkv_bias",
        "norm_gain", "tied_head", "embedding_dropout", "pattern_dropout", "attention_dropout", "feed_forward_dropout",
    }  # fmt: skip
    means_nothing_here = {"rotary_base"}
    before_training = {
        "init", "init_std", "embedding_std", "depth_scaled_init", "zero_init_projections", "zero_init_head",
        "vocab_multiple",
    }  # fmt: skip
    refused = {
        "norm", "norm_type", "positions", "activation", "head_bias", "embedding_norm", "qk_norm", "attention_gain",
        "logit_soft_cap", "attention_output", "attention_scale", "n_kv_heads", "ngram",
    }  # fmt: skip
    assert held | means_nothing_here | before_training | refused == set(GPTConfig.__dataclass_fields__)
    refuse_what_it_cannot_hold(GPTConfig.preset("gpt2-xl"))


def test_nothing_is_written_over_and_nothing_half_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, weights = read_gpt2(Folder(tmp_path / "theirs").path)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UsageError, match="something is here already"):
        write_gpt2(out, config, weights, letters(11))
    out.rmdir()

    def full(*_: object, **__: object) -> None:
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(PrimerError, match="No space left") as caught:
            write_gpt2(out, config, weights, letters(11))
        assert caught.value.exit_code == 3
    save = safetensors.torch.save_file

    def careless(tensors: dict[str, Tensor], *rest: Any, **words: Any) -> None:
        save(
            {name: tensor + (name == "transformer.wte.weight") for name, tensor in tensors.items()},
            *rest,
            **words,
        )

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", careless)
        with pytest.raises(PrimerError, match="reads back otherwise"):
            write_gpt2(out, config, weights, letters(11))
    with pytest.raises(UsageError, match="not the weights of a model with these options"):
        write_gpt2(out, replace(config, n_layers=1), weights, letters(11))
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    import hashlib

    folder = Folder(tmp_path / "theirs")
    content = (folder.path / "model.safetensors").read_bytes()
    assert hashes(folder.path) == {"model.safetensors": hashlib.sha256(content).hexdigest()}
    in_shards(folder)
    assert len(hashes(folder.path)) == len(list(folder.path.glob("model-*.safetensors")))
