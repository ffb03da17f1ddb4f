"""Starting from a run with another context: the model computes on short windows what it computed before."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import primer
from primer.errors import UsageError
from primer.models.gpt import GPT
from primer.recipes.weights import adopt_weights
from setups import TINY

PLAIN = {**TINY, "train.steps": 2, "schedule.warmup": 0, "optim.name": "adamw"}


@pytest.fixture
def origin(text_file: Path, tmp_path: Path) -> Callable[[str], primer.Run]:
    """Trains a moment with these positions and a context of 16."""

    def make(positions: str) -> primer.Run:
        return primer.train(
            text_file, flags={**PLAIN, "model.positions": positions}, runs_dir=tmp_path / "runs"
        )

    return make


def logits(model: GPT, length: int) -> Any:
    tokens = torch.randint(model.config.vocab_size, (2, length), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval()(tokens)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "none"])
def test_a_shorter_context_is_the_beginning_of_the_longer_one(
    positions: str, origin: Callable[[str], primer.Run]
) -> None:
    run = origin(positions)
    short = GPT(replace(run.config.model, context_length=7))
    adopt_weights(short, short.config, run.directory)
    assert torch.equal(logits(short, 7), logits(run.model, 7))
    with pytest.raises(UsageError, match="do not fit into the model's context of 7"):
        logits(short, 8)


def test_training_goes_on_with_a_shorter_context(
    origin: Callable[[str], primer.Run], text_file: Path, tmp_path: Path
) -> None:
    run = origin("learned")
    flags = {key: value for key, value in PLAIN.items() if not key.startswith("model.")}
    flags |= {"model.context_length": 8, "model.pattern_dropout": 0.1, "optim.lr": 1e-12}
    child = primer.train(text_file, flags=flags, runs_dir=tmp_path / "runs", init_from=run)
    assert child.config.model == replace(run.config.model, context_length=8, pattern_dropout=0.1)
    assert (logits(child.model, 8) - logits(run.model, 8)).abs().max() < 1e-5
    assert primer.resume(child, flags={"train.steps": 3}).directory.read_facts()["status"] == "finished"


def test_positions_that_were_never_learned_are_not_made_up(
    origin: Callable[[str], primer.Run], text_file: Path, tmp_path: Path
) -> None:
    run = origin("learned")
    with pytest.raises(UsageError, match=r"model\.context_length=17 is more than the 16 positions") as caught:
        primer.train(
            text_file, flags={**PLAIN, "model.context_length": 17}, runs_dir=tmp_path / "new", init_from=run
        )
    assert caught.value.hint == "--model.context-length=16"
    assert not (tmp_path / "new").exists()
    turning = origin("rotary")
    longer = GPT(replace(turning.config.model, context_length=20))
    adopt_weights(longer, longer.config, turning.directory)
    assert torch.equal(logits(longer, 16), logits(turning.model, 16))


def test_a_size_that_is_not_that_of_the_weights_is_named(
    origin: Callable[[str], primer.Run], text_file: Path, tmp_path: Path
) -> None:
    run = origin("learned")
    flags = {key: value for key, value in PLAIN.items() if not key.startswith("model.")}
    with pytest.raises(UsageError, match="another model's") as caught:
        primer.train(
            text_file, flags={**flags, "model.n_layers": 3}, runs_dir=tmp_path / "runs", init_from=run
        )
    layers = run.config.model.n_layers
    assert f"model.n_layers=3 (there {layers})" in caught.value.cause
    assert caught.value.hint == "leave --model.n-layers out"
