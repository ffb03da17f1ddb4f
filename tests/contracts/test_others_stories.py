"""What went wrong in other people's trainers, as far as no test beside the code itself tells the story."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
from torch import nn

import primer
import setups
from primer.data.batches import BatchStream
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.recipes.weights import newest_step
from primer.training import checkpoint
from primer.training.config import TrainConfig
from primer.training.distributed import World
from primer.training.loop import Trainer
from primer.training.optim import AdamW
from primer.training.precision import LossScaler, Precision

TINY = {
    **setups.TINY,
    "train.steps": 6,
    "train.evaluate_every": 3,
    "train.sample_every": 3,
    "train.checkpoint_every": 3,
}


class Compiled(nn.Module):
    """What torch.compile returns, as far as names go: the model stands under another name in it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self._orig_mod(*args, **kwargs)


def test_a_compiled_model_is_saved_under_its_own_names(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nanoGPT#325: `_orig_mod.` before every name, which no model without compilation can load."""
    monkeypatch.setattr(torch, "compile", Compiled)
    runs = {
        how: primer.train(text_file, flags={**TINY, "train.compile": how}, runs_dir=tmp_path / how)
        for how in ("on", "off")
    }
    assert runs["on"].config.train.compile == "on"
    saved = {}
    for how, run in runs.items():
        path = checkpoint.follow(run.directory.checkpoints, "latest")
        assert path is not None
        saved[how] = checkpoint.load(path)
    assert (
        saved["on"].model.keys() == saved["off"].model.keys() == dict(runs["off"].model.state_dict()).keys()
    )
    assert saved["on"].optim.keys() == saved["off"].optim.keys()
    assert runs["on"].generate("two", tokens=5, seed=1) == runs["off"].generate("two", tokens=5, seed=1)


def test_what_is_renamed_lies_beside_its_new_name(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytorch-lightning#20270: a temporary file on another device cannot be renamed into place."""
    renamed: list[tuple[Path, Path]] = []

    def watch(owner: Any, name: str) -> None:
        ordinary = getattr(owner, name)

        def watched(source: Any, target: Any, **options: Any) -> Any:
            renamed.append((Path(source).resolve(), Path(target).resolve()))
            return ordinary(source, target, **options)

        monkeypatch.setattr(owner, name, watched)

    for name in ("rename", "replace"):
        watch(os, name)
        watch(Path, name)
    run = primer.train(text_file, flags=TINY, runs_dir=tmp_path / "runs")
    inside = [(source, target) for source, target in renamed if target.is_relative_to(run.path.resolve())]
    assert len(inside) > 6
    assert all(source.parent == target.parent for source, target in inside)


def test_nothing_touches_the_network(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer that asks the network for its vocabulary, metrics that are sent home."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError(f"someone opens a connection: {args}")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    for tokenizer in ("char", "byte"):
        flags = {**TINY, "data.tokenizer": tokenizer}
        run = primer.train(text_file, flags=flags, runs_dir=tmp_path / tokenizer)
        primer.resume(run.path, flags={"train.steps": 8})
        assert run.generate("two", tokens=3)
        assert run.evaluate()["tokens"] > 0


@dataclass(frozen=True)
class Scaled(Precision):
    """A precision that scales the loss like fp16 and computes like float32."""

    given: LossScaler | None = None

    def scaler(self) -> LossScaler | None:
        return self.given


def trainer(scaler: LossScaler | None) -> Trainer:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=7, d_model=8, n_layers=1, n_heads=2, context_length=8))
    return Trainer(
        model=model,
        optimizer=AdamW(model.named_parameters(), lr=1e-2, weight_decay=0.0),
        stream=BatchStream(torch.arange(99).numpy() % 7, batch_size=4, context_length=8, seed=1),
        config=TrainConfig(batch_size=4, steps=9),
        schedule=lambda step: 1.0,
        places=2 * 8,
        clip=1.0,
        precision=Scaled(torch.device("cpu"), given=scaler),
    )


def test_a_scaled_loss_gives_the_same_steps() -> None:
    """nanoGPT#167: fp16 without its scaler. The scale is a power of two, so that it changes no bit."""
    plain, scaled = trainer(None), trainer(LossScaler(scale=2.0**10))
    for _ in range(5):
        mine, theirs = scaled.step(), plain.step()
        assert mine == theirs
    for (name, p), q in zip(plain.model.named_parameters(), scaled.model.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_an_overflow_costs_a_step_and_halves_the_scale() -> None:
    scaled = trainer(LossScaler(scale=2.0**127))
    before = [p.detach().clone() for p in scaled.model.parameters()]
    row = scaled.step()
    assert not row["applied"]
    assert scaled.scaler is not None
    assert scaled.scaler.scale == 2.0**126
    assert all(torch.equal(p, q) for p, q in zip(before, scaled.model.parameters(), strict=True))
    scaled.scaler.scale = 2.0**8
    assert scaled.step()["applied"]
    assert any(not torch.equal(p, q) for p, q in zip(before, scaled.model.parameters(), strict=True))


def test_the_scale_goes_on_where_it_was() -> None:
    first = trainer(LossScaler())
    assert first.scaler is not None
    first.scaler.scale, first.scaler.good_steps = 2.0**12, 3
    state = first.state()
    second = trainer(LossScaler())
    second.restore(state)
    assert second.scaler == first.scaler
    for asked in (LossScaler(scale=2.0**10), LossScaler(dynamic=False)):  # another one since
        third = trainer(asked)
        third.restore(state)
        assert (asked.scale, asked.good_steps) == (asked.start, 0)


def test_ranks_agree_on_what_to_resume_from(tmp_path: Path) -> None:
    """A second process whose disk shows more, or less, than the first one's takes what the first one takes."""

    class Told(World):
        def first(self, number: int, device: torch.device) -> int:
            return number if self.is_first else 5

    seen = tmp_path / "seen by the second"
    checkpoint.save(seen / "checkpoints", 9, model={}, optim={}, state={})
    run = SimpleNamespace(checkpoints=seen / "checkpoints", path=seen)
    cpu, silence = torch.device("cpu"), SimpleNamespace(on_message=print)
    assert newest_step(run, Told(rank=0, size=2), cpu, silence) == 9  # type: ignore[arg-type]
    assert newest_step(run, Told(rank=1, size=2), cpu, silence) == 5  # type: ignore[arg-type]
