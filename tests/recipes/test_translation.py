"""Runs on pairs: what they leave, that resuming changes nothing, the mean of checkpoints, and translations."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import primer
from primer.errors import DataError, DivergedError, UsageError
from primer.recipes import translating
from primer.recipes.config import TranslationConfig
from primer.recipes.directory import RunDirectory
from primer.recipes.plan import plan
from primer.training import checkpoint
from setups import TINY, TINY_PAIRS, reversed_digits


def train(folder: Path, runs: str = "runs", **flags: Any) -> primer.Run:
    source = folder / "backwards.tsv"
    if not source.exists():
        reversed_digits(folder)
    return primer.train(
        "translation", flags={**TINY_PAIRS, "data.source": str(source), **flags}, runs_dir=folder / runs
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and with the text that it was trained on."""
    folder = tmp_path_factory.mktemp("finished")
    train(folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> primer.Run:
    """A copy of a run, to do with as a test likes; only the text is the same file for all, and is not to be touched."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    return primer.load("latest", runs_dir=tmp_path / "runs")


def weights(run: RunDirectory, step: int) -> dict[str, torch.Tensor]:
    return checkpoint.load(checkpoint.step_directory(run.checkpoints, step)).model


def losses(run: primer.Run) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in run.metrics() if "loss" in row]


def test_a_run_leaves_what_every_run_leaves(run: primer.Run) -> None:
    facts = run.directory.read_facts()
    assert (facts["status"], facts["source"]["name"]) == ("finished", "backwards.tsv")
    assert isinstance(run.config, TranslationConfig)
    assert run.config.model.vocab_size == 257
    steps = [row for row in run.metrics() if "loss" in row]
    scored = [row for row in run.metrics() if "val_loss" in row]
    assert [row["step"] for row in scored] == [6, 12]
    assert all({"val_exact", "val_bleu", "val_word_perplexity"} <= row.keys() for row in scored)
    assert 0 < steps[-1]["tokens"] <= 12 * 120
    (shown, _) = run.directory.samples.rows()
    assert shown["text"].count("→") == shown["text"].count("=") == 3


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_going_on_is_never_having_stopped(tmp_path: Path, average: float) -> None:
    """Bit for bit: dropout, micro-batches, epochs that end in between."""
    more = {"model.dropout": 0.2, "model.pattern_dropout": 0.1, "train.weight_average": average}
    more |= {"train.steps": 18, "train.evaluate_every": 6}
    whole = train(tmp_path, "whole", **more)
    part = train(tmp_path, "part", **{**more, "train.steps": 8})
    part = primer.resume(part, flags={"train.steps": 18})
    assert losses(part) == losses(whole)
    for step in (15, 18):
        mine, theirs = weights(part.directory, step), weights(whole.directory, step)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_the_mean_of_checkpoints_is_the_papers(run: primer.Run) -> None:
    """The newest three, three steps apart: what the loaded model computes with."""
    parts = [weights(run.directory, step) for step in (6, 9, 12)]
    for name, tensor in run.model.named_parameters():
        torch.testing.assert_close(tensor.detach(), sum(part[name] for part in parts) / 3)
    latest = primer.load(run, checkpoint="latest")
    for name, tensor in latest.model.named_parameters():
        assert torch.equal(tensor, parts[2][name])


def test_a_run_that_was_stopped_in_between_has_the_same_mean(tmp_path: Path) -> None:
    """The checkpoint that a stop leaves is none of those that are averaged, nor does it push one of them out."""
    whole = train(tmp_path, "whole")
    part = train(tmp_path, "part", **{"train.steps": 8})
    part = primer.resume(part, flags={"train.steps": 11})
    part = primer.resume(part, flags={"train.steps": 12})
    kept = {checkpoint.step_of(path) for path in checkpoint.every(part.directory.checkpoints)}
    assert {6, 9, 12} <= kept
    for name, tensor in whole.model.named_parameters():
        assert torch.equal(tensor, dict(part.model.named_parameters())[name])


def test_it_learns_to_turn_numbers_round(tmp_path: Path) -> None:
    """The whole path for real: numbers that it never saw are translated rightly, by itself and by name."""
    reversed_digits(tmp_path, 3000)
    flags = {
        "model.d_model": 32,
        "model.n_layers": 2,
        "model.n_heads": 4,
        "model.d_ff": 64,
        "model.dropout": 0.0,
        "optim.name": "muon",
        "optim.lr": 5e-3,
        "model.norm": "pre",
        "schedule.warmup": 60,
        "schedule.shape": "cosine",
        "schedule.final": 0.0,
        "train.label_smoothing": 0.0,
        "train.steps": 250,
        "train.batch_tokens": 300,
        "train.micro_tokens": 300,
        "train.evaluate_every": 250,
        "train.evaluate_pairs": 200,
        "train.checkpoint_every": 250,
        "train.sample_every": 0,
    }
    run = train(tmp_path, **flags)
    last = [row for row in run.metrics() if "val_exact" in row][-1]
    assert last["val_exact"] > 0.95
    numbers = [line.split("\t")[0] for line in (tmp_path / "backwards.tsv").read_text().splitlines()[::70]]
    found = run.translate(numbers)
    assert sum(text == number[::-1] for text, number in zip(found, numbers, strict=True)) > 0.9 * len(numbers)
    assert run.translate(numbers[3]) == found[3]


def test_a_sentence_alone_is_translated_as_among_others(run: primer.Run) -> None:
    sentences = ["1", "12345", "40", "999"]
    together = translating.translate(run, sentences)
    for sentence, wanted in zip(sentences, together, strict=True):
        (alone,) = translating.translate(run, [sentence])
        assert alone.text == wanted.text
        assert alone.log_p == pytest.approx(wanted.log_p, abs=1e-4)
    slow = translating.translate(run, sentences, use_cache=False)
    assert [each.text for each in slow] == [each.text for each in together]


def test_what_cannot_be_translated_is_an_error(run: primer.Run) -> None:
    with pytest.raises(DataError, match="the sentence is empty"):
        run.translate("  \n")
    with pytest.raises(DataError, match="sentence 2"):
        run.translate(["1", ""])
    with pytest.raises(DataError, match="40"):
        run.translate("1" * 40)
    with pytest.raises(UsageError, match="beam"):
        run.translate("1", beam=0)


def test_a_run_of_the_other_kind_says_what_it_is_for(
    run: primer.Run, text_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="does not go on with a text"):
        run.generate("1")
    with pytest.raises(UsageError, match="does not go on with a text"):
        run.export(tmp_path / "out")
    language = primer.train(text_file, flags=TINY, runs_dir=tmp_path / "texts")
    with pytest.raises(UsageError, match="does not translate"):
        language.translate("1")


def test_a_text_that_changed_is_refused(tmp_path: Path) -> None:
    reversed_digits(tmp_path, 110)  # whose place in the cache is no other test's
    run = train(tmp_path)
    with (tmp_path / "backwards.tsv").open("a") as file:
        file.write("123456\t654321\n")
    shutil.rmtree(run.directory.read_facts()["data"]["path"])
    with pytest.raises(DataError, match="has changed"):
        primer.resume(run, flags={"train.steps": 20})


def test_the_mapped_ids_are_made_again_where_the_cache_was_emptied(tmp_path: Path) -> None:
    reversed_digits(tmp_path, 115)  # whose place in the cache is no other test's
    run = train(tmp_path)
    shutil.rmtree(run.directory.read_facts()["data"]["path"])
    assert len(losses(primer.resume(run, flags={"train.steps": 14}))) == 14


def test_a_run_starts_from_anothers_weights(run: primer.Run, tmp_path: Path) -> None:
    source = str(reversed_digits(tmp_path))
    flags = {**TINY_PAIRS, "data.source": source, "train.steps": 2, "optim.lr": 1e-9}
    for name in ("model.d_model", "model.d_ff", "model.n_heads", "data.vocab_size"):
        del flags[name]
    began = primer.train("translation", flags=flags, init_from=run, runs_dir=tmp_path / "runs")
    assert began.tokenizer.fingerprint == run.tokenizer.fingerprint
    best = checkpoint.follow(run.directory.checkpoints, "best")
    assert best is not None
    before = checkpoint.load(best).model
    for name, tensor in primer.load(began, checkpoint="latest").model.named_parameters():
        torch.testing.assert_close(tensor.detach(), before[name], rtol=0, atol=1e-6)


def test_flags_of_the_other_kind_are_unknown(tmp_path: Path) -> None:
    for flag in ("train.batch_size", "sample.tokens", "data.order"):
        with pytest.raises(
            UsageError, match=f"an encoder–decoder has no {flag}, which is for a language model"
        ):
            train(tmp_path, **{flag: 1})
    with pytest.raises(UsageError, match="a language model has no"):
        primer.train("default", flags={"train.batch_tokens": 1})
    with pytest.raises(UsageError, match="more than a run keeps"):
        train(tmp_path, **{"translate.checkpoints": 9})


def test_long_pairs_are_left_out_and_counted(tmp_path: Path) -> None:
    said: list[str] = []

    class Listening:
        def __getattr__(self, name: str) -> Any:
            return lambda *values: said.extend(map(str, values)) if name == "on_message" else None

    file, held_out = reversed_digits(tmp_path), tmp_path / "held_out.tsv"
    file.write_text(file.read_text() + f"{'1' * 60}\t2\n" * 3)
    held_out.write_text(f"12\t21\n{'1' * 60}\t2\n")
    flags = {**TINY_PAIRS, "data.source": str(file), "data.validation_source": str(held_out)}
    primer.train("translation", flags=flags, runs_dir=tmp_path / "runs", reporter=Listening())
    count = len(file.read_text().splitlines())
    reason = "are left out: a sentence of more than 40 tokens (model.context_length)"
    assert f"3 of {count} training pairs {reason}" in said
    assert f"1 of 2 validation pairs {reason}" in said
    assert any("of them padding" in line for line in said)
    held_out.write_text(f"{'1' * 60}\t2\n" * 2)
    with pytest.raises(DataError, match="no pairs to judge by: of 2 none"):
        primer.train("translation", flags=flags, runs_dir=tmp_path / "runs")


def test_an_evaluation_that_finds_no_number_is_no_end(tmp_path: Path) -> None:
    """Weights that burst: it is the loop that says that a run has diverged, after as many steps as it always waits."""
    with pytest.raises(DivergedError):
        train(tmp_path, **{"optim.lr": 1e30, "optim.clip": 0.0, "train.steps": 40})


def test_a_run_whose_files_were_moved_goes_on(tmp_path: Path) -> None:
    """Each may be somewhere else, as long as it says the same, and also where the cache was emptied."""
    names = ("source", "target", "validation_source", "validation_target")
    rows = [line.split("\t") for line in reversed_digits(tmp_path).read_text().splitlines()]
    for number, name in enumerate(names):
        part = rows[20:] if number < 2 else rows[:20]
        (tmp_path / name).write_text("".join(f"{row[number % 2]}\n" for row in part))
    run = train(tmp_path, **{f"data.{name}": str(tmp_path / name) for name in names})
    shutil.rmtree(run.directory.read_facts()["data"]["path"])
    for name in names[1:]:
        (tmp_path / name).rename(tmp_path / f"{name} moved")
    with pytest.raises(DataError) as caught:
        primer.resume(run, flags={"train.steps": 14})
    assert caught.value.hint == "put it back, or say where it is now: --data.target=PATH"
    moved = {f"data.{name}": str(tmp_path / f"{name} moved") for name in names[1:]}
    run = primer.resume(run, flags={"train.steps": 14, **moved})
    assert run.config.data.target == moved["data.target"]
    (tmp_path / "target moved").write_text("1\n" * len(rows[20:]))
    with pytest.raises(DataError, match="has changed"):
        primer.resume(run, flags={"train.steps": 16, "data.target": moved["data.target"]})


def test_a_run_goes_on_with_larger_batches(tmp_path: Path) -> None:
    """From the next step on: a few pairs at first, then all that are left of one length."""
    run = train(tmp_path, **{"train.batch_tokens": 12})
    run = primer.resume(run, flags={"train.steps": 14, "train.batch_tokens": 100_000})
    tokens = [row["tokens"] for row in run.metrics() if "loss" in row]
    steps = [after - before for before, after in itertools.pairwise([0, *tokens])]
    assert max(steps[:12]) <= 12
    assert min(steps[12:]) > 24


def test_reading_a_model_draws_nothing(run: primer.Run) -> None:
    for which in ("latest", "average"):
        before = torch.get_rng_state()
        _ = primer.load(run, checkpoint=which).model
        assert torch.equal(torch.get_rng_state(), before)


def test_the_disk_is_planned_for_what_is_kept(run: primer.Run) -> None:
    """Checkpoints in between come and go beside those that are averaged."""
    facts = plan(run.config, {"cpu fp32": 1e11})
    kept = {checkpoint.step_of(path) for path in checkpoint.every(run.directory.checkpoints)}
    assert len(kept) <= facts["checkpoints"] == 2 * 3 + 2


def test_the_papers_recipes_need_pairs_of_ones_own(tmp_path: Path) -> None:
    for recipe in ("transformer-base", "transformer-big"):
        with pytest.raises(UsageError, match="no pairs of its own") as caught:
            primer.train(recipe, flags={"train.device": "cpu"}, runs_dir=tmp_path)
        assert "--data.source=FILE --data.target=FILE" in str(caught.value.hint)
