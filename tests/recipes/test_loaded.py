"""A run from outside: what it writes is what its weights, its `[sample]` and its seed say, and nothing else."""

import dataclasses
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import primer
from primer.errors import DataError, UsageError
from primer.generation.sampling import Sampling
from primer.generation.text import streams
from primer.models.gpt import GPT
from primer.recipes.weights import check_origin, put_weights
from primer.tokens.bpe import BPETokenizer
from primer.training import checkpoint
from primer.training.distributed import World

FLAGS: dict[str, Any] = {
    "model.d_model": 16, "model.n_layers": 1, "model.n_heads": 2, "model.context_length": 16,
    "model.ngram.orders": (), "model.pattern_dropout": 0.3, "train.steps": 8, "train.batch_size": 8,
    "train.short_context": 0, "train.evaluate_every": 4, "train.checkpoint_every": 4, "train.sample_every": 0,
    "train.keep": 5, "train.device": "cpu", "train.threads": 1, "schedule.warmup": 1, "schedule.shape": "constant",
    "optim.name": "adamw", "optim.lr": 0.01, "sample.prompt": "two", "sample.tokens": 7, "sample.temperature": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> primer.Run:
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("".join(f"two times {n} is {2 * n}.\n" for n in range(200)), encoding="utf-8")
    return primer.train(text, flags=FLAGS, runs_dir=text.parent / "runs")


def greedy(run: primer.Run, prompt: str, tokens: int) -> str:
    """The likeliest character, again and again, from a whole new pass over the text each time."""
    ids = run.tokenizer.encode(prompt).tolist()
    for _ in range(tokens):
        assert len(ids) <= 16, "the window must not move"
        ids.append(int(run.model(torch.tensor([ids]))[0, -1].argmax()))
    return run.tokenizer.decode(ids[len(prompt) :])


def test_what_is_left_out_is_as_the_run_says(trained: primer.Run) -> None:
    assert trained.generate() == greedy(trained, "two", 7)
    assert trained.generate("is 1", tokens=5) == greedy(trained, "is 1", 5)
    assert trained.generate("two", tokens=40, temperature=2.0, seed=1) != trained.generate(
        "two", tokens=40, temperature=2.0, seed=2
    )
    assert trained.generate("two", tokens=9, temperature=2.0, top_k=1) == greedy(trained, "two", 9)


def test_pieces_and_texts_and_samples_are_the_same_writing(trained: primer.Run) -> None:
    wanted: dict[str, Any] = {"tokens": 40, "temperature": 1.0, "seed": 4}
    whole = trained.generate("two", **wanted)
    assert "".join(trained.stream("two", **wanted)) == whole
    assert trained.generate("two", use_cache=False, **wanted) == whole
    several = trained.generate("two", n=3, **wanted)
    assert len(several) == 3
    assert len(set(several)) == 3
    stopped = trained.generate("two", stop=["."], **{**wanted, "tokens": 200})
    assert isinstance(stopped, str)
    assert "." not in stopped


def test_best_and_latest_are_two_models(trained: primer.Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / trained.path.name)
    path = tmp_path / trained.path.name
    checkpoint.point(path / "checkpoints", "best", 4)
    for which, step in (("best", 4), ("latest", 8)):
        run = primer.load(path, checkpoint=which)  # type: ignore[arg-type]
        saved = checkpoint.load(checkpoint.step_directory(path / "checkpoints", step)).model
        for name, p in run.model.named_parameters():
            assert torch.equal(p, saved[name]), f"{which}: {name}"


def test_another_text_is_scored_as_by_hand(trained: primer.Run, tmp_path: Path) -> None:
    text = tmp_path / "other.txt"
    text.write_text("two is two.\n", encoding="utf-8")  # shorter than a window
    ids = trained.tokenizer.encode("two is two.\n").tolist()
    logits = trained.model(torch.tensor([ids[:-1]]))[0].double()
    nats = -logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]].sum().item()
    found = trained.evaluate(text)
    assert found["tokens"] == len(ids) - 1
    assert found["loss"] == pytest.approx(nats / found["tokens"], rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / found["tokens"], rel=1e-6)
    (tmp_path / "short.txt").write_text("t")
    with pytest.raises(DataError, match="nothing"):
        trained.evaluate(tmp_path / "short.txt")


def test_it_is_a_path_and_an_argument(trained: primer.Run) -> None:
    assert Path(os.fspath(trained)) == trained.path
    assert primer.load(trained).path == trained.path
    assert str(trained.path) in repr(trained)
    with pytest.raises(UsageError):
        trained.generate("")


def test_weights_that_do_not_fit_change_nothing(trained: primer.Run) -> None:
    model = primer.load(trained).model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    good = checkpoint.weights_of(model)
    name = "head.weight"
    damages: list[dict[str, torch.Tensor]] = [
        {key: tensor + 1 for key, tensor in good.items() if key != name},
        {**{key: tensor + 1 for key, tensor in good.items()}, "extra": torch.zeros(1)},
        {key: tensor[:-1] if key == name else tensor + 1 for key, tensor in good.items()},
        {key: tensor * torch.nan if key == name else tensor + 1 for key, tensor in good.items()},
    ]
    for bad in damages:
        with pytest.raises(DataError) as caught:
            put_weights(model, bad, "here")
        assert caught.value.where == "here"
        assert all(torch.equal(p, before[key]) for key, p in model.named_parameters())
    put_weights(model, {key: tensor.detach() + 1 for key, tensor in good.items()}, "here")
    assert all(torch.equal(p, before[key] + 1) for key, p in model.named_parameters())


def test_a_folder_is_scored_as_it_would_be_trained_on(trained: primer.Run, tmp_path: Path) -> None:
    """With a blank line between its documents."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("two times 3 is 6.")
    (folder / "b.jsonl").write_text('{"text": "two times 4 is 8."}\n{"text": "two times 5 is 10."}\n')
    whole = tmp_path / "whole.txt"
    whole.write_text("two times 3 is 6.\n\ntwo times 4 is 8.\n\ntwo times 5 is 10.")
    assert trained.evaluate(folder) == trained.evaluate(whole)
    (folder / "c.txt").write_text("two?")
    with pytest.raises(DataError, match=r"'\?' .* at position 3") as caught:
        trained.evaluate(folder)
    assert caught.value.where == "c.txt"


@pytest.mark.parametrize(("name", "kind"), [("data", "text"), ("tokenizer", "characters")])
def test_a_checkpoint_of_other_data_is_refused(trained: primer.Run, name: str, kind: str) -> None:
    from primer.recipes.text import open_data

    shards = open_data(trained.config, trained.directory, World())
    saved = checkpoint.load(checkpoint.step_directory(trained.directory.checkpoints, 8))
    check_origin(saved, shards)
    other = dataclasses.replace(saved, state={**saved.state, name: "0" * 64})
    with pytest.raises(DataError, match=f"made with other {kind}"):
        check_origin(other, shards)


def test_samples_on_the_way_are_what_the_run_writes_afterwards(trained: primer.Run, tmp_path: Path) -> None:
    """`[sample]` is read in one way while training and after it, and step and seed decide the draw."""
    file = trained.path.parent.parent / "text.txt"
    chosen = {"train.sample_every": 8, "sample.temperature": 0.7, "sample.top_k": 3, "sample.top_p": 0.8}
    run = primer.train(file, flags={**FLAGS, **chosen}, runs_dir=tmp_path)
    last = primer.load(run, checkpoint="latest")
    expected = last.generate(seed=run.config.seed + 8, temperature=0.7, top_k=3, top_p=0.8)
    assert [row["text"] for row in run.directory.samples.rows()] == [f"two{expected}"]
    for key, value in (("temperature", -1.0), ("top_k", -1), ("top_p", 0.0), ("tokens", 0)):
        with pytest.raises(UsageError, match=rf"sample\.{key} must be"):
            primer.train(file, flags={**FLAGS, f"sample.{key}": value}, runs_dir=tmp_path)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_reading_a_model_draws_nothing_and_leaves_nothing_undone(positions: str, tmp_path: Path) -> None:
    """Weights and tables are those of the model that was saved, whatever lay in the memory that they were given."""
    text = tmp_path / "text.txt"
    text.write_text("two times two is four.\n" * 60, encoding="utf-8")
    flags = {**FLAGS, "model.positions": positions, "model.ngram.counted": 2, "train.steps": 1}
    run = primer.train(text, flags=flags, runs_dir=tmp_path / "runs")
    before = torch.get_rng_state()
    loaded = primer.load(run).model
    assert torch.equal(torch.get_rng_state(), before)
    built = GPT(run.config.model)
    saved = checkpoint.load(checkpoint.step_directory(run.directory.checkpoints, 1)).model
    put_weights(built, saved, "here")
    for name, p in built.named_parameters():
        assert torch.equal(p, loaded.get_parameter(name)), name
    for name, buffer in built.named_buffers():
        assert torch.equal(buffer, loaded.get_buffer(name)), name


def test_a_special_token_that_a_prompt_spells_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"two times {n} is {2 * n}.\n" for n in range(300)))
    tokenizer = BPETokenizer.train([text.read_text()], vocab_size=270)
    (tmp_path / "words.json").write_text(tokenizer.to_json())
    flags = {**FLAGS, "data.tokenizer": str(tmp_path / "words.json"), "train.steps": 4}
    run = primer.train(text, flags=flags, runs_dir=tmp_path / "runs")
    end = tokenizer.special_tokens["<|endoftext|>"]
    spelt = "<|endoftext|>two"
    with pytest.raises(DataError, match="spells the special token"):
        run.generate(spelt)
    expected = np.array([end, *tokenizer.encode("two")])
    assert run.tokenizer.encode(spelt, special="allow").tolist() == expected.tolist()
    as_token, as_text = (run.generate(spelt, special=how, temperature=0.0) for how in ("allow", "text"))
    wanted = {"max_tokens": 7, "sampling": Sampling(temperature=0.0)}
    for found, special in ((as_token, "allow"), (as_text, "text")):
        ids = run.tokenizer.encode(spelt, special=special)
        pieces = streams(run.model, run.tokenizer, ids, **wanted)
        assert found == "".join(piece for (piece,) in pieces)
