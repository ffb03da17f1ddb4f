"""A plan is arithmetic: judged by adding up the run step by step."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import primer
from primer import device
from primer.cli.main import main
from primer.cli.plan import about, megabytes
from primer.models import count
from primer.recipes import plan as plans
from primer.recipes.build import build_model
from primer.recipes.report import Silence
from primer.recipes.resolve import resolve
from setups import TINY

RATE = 1e11


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every measurement of the machine that is made, and none of them true."""
    seen: list[str] = []

    def rate(where: Any, dtype: Any = None) -> float:
        seen.append(f"{where} {dtype}")
        return RATE

    monkeypatch.setattr(device, "matmul_rate", rate)
    return seen


def planned(recipe: str, **flags: Any) -> dict[str, Any]:
    config = resolve(recipe, flags={"train.device": "cpu", **flags}).config
    return plans.plan(config, {})


@pytest.mark.parametrize(
    "flags",
    [
        {"train.steps": 100},
        {"train.steps": 100, "train.short_context": 32, "train.short_until": 0.25},
        {"train.steps": 7, "train.batch_size": 5, "model.vocab_size": 50},
    ],
)
def test_the_flops_are_those_of_every_step(flags: dict[str, Any], measured: list[str]) -> None:
    flags = {
        "train.minutes": 0.0,
        "train.short_context": 0,
        "train.micro_batch": 0,
        "schedule.warmup": 0,
        **flags,
    }
    config = resolve("lecture", flags=flags).config
    model = dataclasses.replace(config.model, vocab_size=config.model.vocab_size or plans.CHARACTERS)
    flops = tokens = 0.0
    for step in range(config.train.steps):
        rows, length = config.train.shape_at(step, model.context_length)
        tokens += rows * length
        flops += rows * length * count.flops_per_token(model, length)
    found = planned("lecture", **flags)
    assert found["tokens"] == tokens
    assert found["flops"] == pytest.approx(flops, rel=1e-9)
    assert found["seconds"] == pytest.approx(flops / (RATE * plans.SHARE), rel=1e-9)


def test_its_parameters_are_those_of_the_model_that_is_built(measured: list[str]) -> None:
    import torch

    flags = {"model.d_model": 32, "model.n_layers": 2, "model.n_heads": 2, "model.ngram.orders": (2, 3)}
    for recipe in ("default", "lecture", "shakespeare"):
        config = resolve(recipe, flags={**flags, "model.vocab_size": 40, "model.ngram.counted": 0}).config
        built = build_model(config, None, torch.device("cpu"))  # type: ignore[arg-type]
        found = planned(recipe, **flags, **{"model.vocab_size": 40, "model.ngram.counted": 0})
        assert found["parameters"] == sum(p.numel() for p in built.parameters())
        assert found["memory"]["weights"] >= 4 * found["parameters"]
        assert found["memory"]["total"] == sum(found["memory"].values()) - found["memory"]["total"]


def test_the_vocabulary_is_assumed_until_the_text_was_read(measured: list[str]) -> None:
    assert (planned("lecture")["vocabulary"], planned("lecture")["vocabulary_assumed"]) == (96, True)
    known = planned("lecture", **{"model.vocab_size": 65})
    assert (known["vocabulary"], known["vocabulary_assumed"]) == (65, False)
    as_bytes = planned("lecture", **{"data.tokenizer": "byte"})
    assert (as_bytes["vocabulary"], as_bytes["vocabulary_assumed"]) == (256, False)


def test_a_machine_is_measured_once(measured: list[str]) -> None:
    rates: dict[str, float] = {}
    for recipe in ("lecture", "default", "lecture"):
        config = resolve(recipe, flags={"train.device": "cpu", "train.threads": 1}).config
        plans.plan(config, rates)
    assert len(measured) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (100_000, "27.8 h"),
        (360_000, "4 days"),
    ],
)
def test_durations_are_no_more_exact_than_they_are_known(seconds: float, said: str) -> None:
    assert about(seconds) == said


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0.0 MB"), (999e6, "999.0 MB"), (1e9, "1.0 GB"), (2.55e10, "25.5 GB")]
)
def test_sizes(size: float, said: str) -> None:
    assert megabytes(size) == said


def test_a_run_tells_what_was_planned_and_what_it_was(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], measured: list[str]
) -> None:
    words = [f"--{key.replace('_', '-')}={value}" for key, value in TINY.items()]
    assert main(["train", str(text_file), f"--runs-dir={tmp_path}", *words]) == 0
    found = json.loads((next(tmp_path.glob("*/run.json"))).read_text())
    actual, planned = found["actual"], found["planned"]
    assert actual["tokens"] == planned["tokens"] == 12 * 8 * 16
    assert actual["parameters"] == planned["parameters"]
    assert actual["flops"] == pytest.approx(planned["flops"])
    assert actual["share"] == pytest.approx(actual["flops"] / actual["seconds"] / RATE, rel=0.1)
    said = capsys.readouterr().err
    assert "of training, 0:00 by plan" in said
    assert main(["plan", "latest", f"--runs-dir={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert f"{planned['parameters']:,}  {actual['parameters']:,}" in " ".join(shown.split()).replace(
        " ", "  "
    )
    assert main(["plan", "latest", f"--runs-dir={tmp_path}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": found["id"], "planned": planned, "actual": actual}


def test_a_run_without_an_end_has_no_figures_yet(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = primer.train(text_file, flags=TINY, runs_dir=tmp_path, reporter=Silence())
    assert main(["plan", str(run.path)]) == 4
    assert "keeps no plan" in capsys.readouterr().err


def test_an_imported_run_had_no_plan(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = primer.train(text_file, flags=TINY, runs_dir=tmp_path, reporter=Silence())
    run.directory.update_facts(status="imported", imported={"format": "huggingface"})
    assert main(["plan", str(run.path)]) == 4
    assert "imported: nothing was planned" in capsys.readouterr().err


def test_a_finetune_is_planned_with_the_run_that_it_starts_from(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], measured: list[str]
) -> None:
    run = primer.train(text_file, flags=TINY, runs_dir=tmp_path, reporter=Silence())
    assert main(["plan", "finetune", f"--init-from={run.path}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == count.parameters(run.config.model)
    assert main(["plan"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("finetune"))
    assert line.split()[1] == "-"


def test_a_plan_says_what_checkpoints_take(measured: list[str]) -> None:
    plain, averaged = (planned("default", **{"train.weight_average": mean}) for mean in (0.0, 0.9))
    memory = plain["memory"]
    assert plain["checkpoint_bytes"] == memory["weights"] + memory["optimizer"]
    assert averaged["checkpoint_bytes"] == plain["checkpoint_bytes"] + memory["weights"]
    assert planned("default", **{"train.keep": 5})["checkpoints"] == 7, "the best, and one on its way"


def test_the_steps_of_a_run_are_those_it_took(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], measured: list[str]
) -> None:
    words = [f"--{key.replace('_', '-')}={value}" for key, value in TINY.items()]
    assert main(["train", str(text_file), f"--runs-dir={tmp_path}", *words, "--train.steps=10"]) == 0
    capsys.readouterr()
    resumed = ["resume", "latest", f"--runs-dir={tmp_path}", "--train.steps=20", "--train.batch-size=32"]
    assert main(resumed) == 0
    capsys.readouterr()
    assert main(["plan", "latest", f"--runs-dir={tmp_path}"]) == 0
    assert ["steps", "20", "20"] in [line.split() for line in capsys.readouterr().out.splitlines()]
