"""What a recipe's words become: sizes, groups of parameters with their rates, the tokens that are scored."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from primer.data.shards import ShardDirectory
from primer.data.writer import write_shards
from primer.errors import UsageError
from primer.evals.likelihood import LOGITS
from primer.models.count import parameters
from primer.models.gpt import GPT
from primer.recipes.build import (
    adamw_rate,
    build_optimizer,
    build_stream,
    rows_to_score,
    tokens_to_score,
    validation_batches,
)
from primer.recipes.resolve import resolve
from primer.tokens import BPETokenizer, ByteTokenizer
from primer.tokens.tokenizer import END_OF_TEXT
from primer.training.distributed import World
from primer.training.optim import AdamW, Muon, Optimizers

SMALL = {
    "model.vocab_size": 100,
    "model.d_model": 24,
    "model.n_layers": 2,
    "model.context_length": 16,
    "train.device": "cpu",
}


def optimizers(recipe: str) -> tuple[GPT, list[AdamW | Muon]]:
    config = resolve(recipe, flags=SMALL).config
    model = GPT(config.model)
    found = build_optimizer(config, model)
    assert isinstance(found, Optimizers)
    return model, found.optimizers  # type: ignore[return-value]


def test_gpt2_is_the_size_that_was_published_and_a_step_half_a_million_tokens() -> None:
    config = resolve("gpt2-124m").config
    assert parameters(dataclasses.replace(config.model, vocab_size=50257)) == 124_439_808
    assert config.model.padded(50257) == 50304
    assert config.train.batch_size * config.model.context_length == 524_288
    assert config.train.steps * 524_288 == pytest.approx(10e9, rel=1e-3)


PUBLISHED = {
    "gpt2-124m": {  # Radford et al. 2019, table 2; Brown et al. 2020, table 2.1 and appendix B; build-nanogpt
        "model.context_length": 1024, "model.d_model": 768, "model.n_layers": 12, "model.n_heads": 12,
        "model.norm": "pre", "model.norm_type": "layernorm", "model.positions": "learned", "model.bias": True,
        "model.activation": "gelu", "model.tied_head": True, "model.init": "gpt2", "model.init_std": 0.02,
        "model.depth_scaled_init": True, "model.vocab_multiple": 128, "data.validation_fraction": 0.01,
        "optim.name": "adamw", "optim.lr": 6e-4, "optim.betas": (0.9, 0.95), "optim.eps": 1e-8,
        "optim.weight_decay": 0.1, "optim.clip": 1.0, "schedule.shape": "cosine", "schedule.warmup": 715,
        "schedule.final": 0.1, "train.steps": 19073, "train.batch_size": 512,
    },
    "gpt2-124m-modern": {  # modded-nanogpt, train_gpt_simple.py
        "model.n_heads": 6, "model.norm_type": "rmsnorm", "model.positions": "rotary", "model.qk_norm": True,
        "model.attention_gain": 1.3576, "model.activation": "relu2", "model.bias": False, "model.tied_head": False,
        "model.embedding_norm": True, "model.zero_init_projections": True, "model.zero_init_head": True,
        "model.logit_soft_cap": 15.0, "data.order": "documents", "optim.name": "muon", "optim.muon_lr": 0.035,
        "optim.muon_weight_decay": 0.025, "optim.muon_momentum": 0.95, "optim.lr": 0.01,
        "optim.embedding_lr": 0.3, "optim.head_lr": 0.003125, "optim.betas": (0.8, 0.95), "optim.eps": 1e-10,
        "optim.weight_decay": 0.0, "schedule.shape": "wsd", "schedule.warmup": 0, "schedule.decay": 0.7,
        "schedule.final": 0.0, "train.steps": 3250, "train.batch_size": 512,
    },
}  # fmt: skip


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_recipe_says_what_its_sources_say(recipe: str) -> None:
    config = resolve(recipe).config
    found = {
        name: getattr(getattr(config, name.split(".")[0]), name.split(".")[1]) for name in PUBLISHED[recipe]
    }
    assert found == PUBLISHED[recipe]


def test_muon_takes_queries_keys_and_values_apart() -> None:
    _, groups = optimizers("gpt2-124m-modern")
    (muon,) = (group for group in groups if isinstance(group, Muon))
    assert muon.rows == {f"layers.{n}.attention.qkv.weight": (24, 24, 24) for n in range(2)}


def test_gpt2_decays_matrices_and_nothing_else() -> None:
    model, groups = optimizers("gpt2-124m")
    decayed = {name for group in groups if group.weight_decay for name in group.parameters}
    assert decayed == {name for name, p in model.named_parameters() if p.ndim == 2}
    assert {group.weight_decay for group in groups} == {0.1, 0.0}
    assert all(isinstance(group, AdamW) and group.betas == (0.9, 0.95) for group in groups)


def test_the_modern_recipe_gives_each_part_its_own_rate() -> None:
    model, groups = optimizers("gpt2-124m-modern")
    rates = {name: group.lr for group in groups for name in group.parameters}
    assert rates.keys() == dict(model.named_parameters()).keys()
    assert rates["token_embedding.weight"] == 0.3
    assert rates["head.weight"] == 0.003125
    assert rates["final_norm.weight"] == 0.01
    assert rates["layers.1.attention.qkv.weight"] == 0.035
    muon = [name for group in groups if isinstance(group, Muon) for name in group.parameters]
    assert len(muon) == 2 * 4


def test_a_part_without_a_rate_of_its_own_has_the_usual_one() -> None:
    optim = dataclasses.replace(resolve("gpt2-124m").config.optim, lr=0.5, ngram_lr=0.25)
    assert adamw_rate(optim, "token_embedding.weight") == 0.5
    assert adamw_rate(optim, "mixture.weight") == 0.25


def test_dropout_gives_way_to_the_recipe_and_nothing_else_does() -> None:
    origin = ("run abc", {"model": {"d_model": 48, "embedding_dropout": 0.3, "pattern_dropout": 0.3}})
    config = resolve("finetune", beneath_flags=origin).config
    assert (config.model.d_model, config.model.embedding_dropout, config.model.pattern_dropout) == (
        48,
        0.1,
        0.3,
    )
    assert resolve("finetune", beneath_flags=origin, flags={"model.embedding_dropout": 0.0}).config.model == (
        dataclasses.replace(config.model, embedding_dropout=0.0)
    )


CPU = torch.device("cpu")


@pytest.fixture
def shards(tmp_path) -> ShardDirectory:
    ids = np.arange(1000) % 100
    return write_shards(tmp_path / "shards", {"train": [ids], "validation": [ids]}, ByteTokenizer())


@pytest.mark.parametrize(("asked", "scored"), [(0, 999), (200, 200), (5000, 999)])
def test_only_the_beginning_of_the_validation_part_is_scored_where_that_is_asked_for(
    shards: ShardDirectory, asked: int, scored: int
) -> None:
    config = resolve("gpt2-124m", flags={**SMALL, "train.evaluate_tokens": asked}).config
    for size in (1, 2):
        batches = [
            batch
            for rank in range(size)
            for batch in validation_batches(config, shards, World(rank, size), step=0, device=CPU)
        ]
        assert tokens_to_score(config, shards) == scored
        assert sum(batch.targets.numel() for batch in batches) == scored
        assert sorted(torch.cat([batch.targets.flatten() for batch in batches]).tolist()) == sorted(
            (np.arange(1, scored + 1) % 100).tolist()
        )


def test_as_many_rows_are_scored_at_once_as_their_logits_allow() -> None:
    model = dataclasses.replace(resolve("gpt2-124m").config.model, vocab_size=50304)
    gpu = torch.device("cuda")
    rows = rows_to_score(model, gpu)
    assert rows * 1024 * 50304 <= LOGITS["cuda"] < (rows + 1) * 1024 * 50304
    assert rows_to_score(dataclasses.replace(model, vocab_size=65), gpu) == 8
    assert rows_to_score(dataclasses.replace(model, context_length=100_000), gpu) == 1
    short = dataclasses.replace(model, context_length=128)
    assert (
        rows_to_score(short, CPU) * 128 * 50304
        <= LOGITS["cpu"]
        < (rows_to_score(short, CPU) + 1) * 128 * 50304
    )
    assert rows_to_score(short, torch.device("mps")) == rows_to_score(short, CPU)


def test_windows_begin_where_the_modern_recipes_documents_do(tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train(["low lower lowest " * 9], 260)
    begin = tokenizer.special_tokens[END_OF_TEXT]
    ids = np.random.default_rng(0).integers(256, size=3000)
    ids[::30] = begin
    shards = write_shards(tmp_path / "bpe", {"train": [ids]}, tokenizer)
    config = resolve("gpt2-124m-modern", flags=SMALL).config
    batch = build_stream(config, shards, World()).next()
    assert batch.inputs.shape == (512, 16)
    assert set(batch.inputs[:, 0].tolist()) == {begin}
    assert len(set(batch.starts.tolist())) == 100


def test_a_tokenizer_without_the_token_before_documents_is_refused(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "bytes", {"train": [np.arange(200)]}, ByteTokenizer())
    config = resolve("gpt2-124m-modern", flags=SMALL).config
    with pytest.raises(UsageError, match="no token that stands before one"):
        build_stream(config, shards, World())
