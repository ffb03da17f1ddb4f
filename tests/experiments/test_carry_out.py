"""An experiment for real, tiny: what pairs share, that nothing is trained twice, and what becomes of bad endings."""

import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from primer.errors import StoppedError
from primer.experiments.carry_out import carry_out
from primer.experiments.experiment import Experiment, Measure, Variant
from primer.experiments.measures import LOSS, PERPLEXITY
from primer.experiments.trial import trials
from primer.experiments.verdict import Findings
from primer.recipes.directory import RunDirectory, every
from primer.recipes.session import Session
from primer.recipes.translation import PairStream, Translation
from primer.training.loop import Trainer
from setups import TINY, TINY_PAIRS, reversed_digits

EXPERIMENT = Experiment(
    "tiny",
    "Does anything matter?",
    "translation",
    (PERPLEXITY,),
    (Variant("h=1", {"model.n_heads": 1}), Variant("dropout=0.5", {"model.dropout": 0.5})),
    flags={**TINY_PAIRS, "train.evaluate_pairs": 0, "train.sample_every": 0, "train.patience": 2},
)
FIRST = replace(EXPERIMENT, variants=EXPERIMENT.variants[:1])
STEPS = TINY_PAIRS["train.steps"]


@dataclass
class Carried:
    """An experiment that was carried out: what there is of it, and what was seen on the way, run after run."""

    folder: Path
    found: Findings
    steps: list[int]
    told: list[tuple[str, Any]]
    dealt: list[list[Any]] = field(default_factory=list)
    began: list[dict[str, torch.Tensor]] = field(default_factory=list)


class Listening:
    """A reporter that remembers all it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *values: self.told.append((name, values[0] if values else None))


@contextmanager
def counted() -> Iterator[list[int]]:
    """The seed of every step that is taken, whoever takes it."""
    taken: list[int] = []
    step = Trainer.step

    def counting(self: Trainer, *arguments: Any) -> Any:
        row = step(self, *arguments)
        if row is not None:
            taken.append(self.stream.seed)  # type: ignore[attr-defined]
        return row

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", counting)
        yield taken


@pytest.fixture
def steps() -> Iterator[list[int]]:
    """The seed of every step that is taken, whoever takes it."""
    with counted() as taken:
        yield taken


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The flag that names a text of pairs."""
    return {"data.source": str(reversed_digits(tmp_path_factory.mktemp("source")))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, source: dict[str, Any]) -> Carried:
    """The experiment with two seeds, which nothing happened to. Its runs are not to be touched: see `copy`."""
    dealt: list[list[Any]] = []
    began: list[dict[str, torch.Tensor]] = []
    model, following = Translation.model, PairStream.next

    def watched_model(self: Translation, *arguments: Any) -> Any:
        made = model(self, *arguments)
        began.append({name: tensor.detach().clone() for name, tensor in made.named_parameters()})
        dealt.append([])
        return made

    def watched_next(self: PairStream) -> Any:
        batch = following(self)
        dealt[-1].append((batch.source.tolist(), batch.targets.tolist()))
        return batch

    folder, listening = tmp_path_factory.mktemp("whole"), Listening()
    with pytest.MonkeyPatch.context() as patch, counted() as taken:
        patch.setattr(Translation, "model", watched_model)
        patch.setattr(PairStream, "next", watched_next)
        found = ask(folder, source, reporter=listening)
    return Carried(folder, found, taken, listening.told, dealt, began)


@pytest.fixture
def copy(whole: Carried, tmp_path: Path) -> Path:
    """The same runs once more, for a test to do with as it likes."""
    return shutil.copytree(whole.folder, tmp_path / "copy")


def ask(folder: Path, flags: dict[str, Any], experiment: Experiment = EXPERIMENT, **more: Any) -> Findings:
    seeds = more.pop("seeds", 2)
    wanted = trials(experiment, experiment.variants, seeds, flags)
    return carry_out(experiment, wanted, runs_dir=folder, **more)


def values(found: Findings) -> dict[str, list[Any]]:
    """By variant what became of its runs, but for where they are."""
    return {
        row.variant.name: [replace(each, path="") for each in row.outcomes]
        for row in (found.base, *found.rows)
    }


def runs(folder: Path) -> list[RunDirectory]:
    return every(folder / "why-tiny")


def test_runs_of_a_pair_share_their_batches_and_their_first_weights(whole: Carried) -> None:
    dealt, began = whole.dealt, whole.began
    base, other = slice(0, None, 2), slice(1, None, 2)  # of three variants, the first seed and the second
    assert [len(run) for run in dealt] == [STEPS] * 6
    for of_a_seed in (dealt[base], dealt[other]):
        assert of_a_seed[0] == of_a_seed[1] == of_a_seed[2]
    assert dealt[0] != dealt[1]
    for first, *rest in (began[base], began[other]):
        for weights in rest:
            assert all(torch.equal(weights[name], first[name]) for name in first)
    assert any(not torch.equal(began[0][name], began[1][name]) for name in began[0])


def test_the_verdict_is_the_difference_of_what_the_runs_say(copy: Path, source: dict[str, Any]) -> None:
    """From metrics.jsonl to the interval, by another way."""
    found = ask(copy, source, seeds=3)
    last = {}
    for run in runs(copy):
        config = run.read_config()
        row = [row for row in run.metrics.rows() if "val_loss" in row][-1]
        assert row["step"] == STEPS
        last[config.model.n_heads, config.model.dropout, config.seed] = row["val_loss"]  # type: ignore[union-attr]
    assert len(last) == 9
    differences = [last[1, 0.2, seed] - last[2, 0.2, seed] for seed in found.seeds]
    mean = sum(differences) / 3
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / 2 / 3)
    difference = found.difference(found.rows[0], PERPLEXITY)
    assert difference is not None
    assert difference.mean == pytest.approx(mean, rel=1e-6)
    assert difference.interval == pytest.approx(
        (mean - 4.302653 * spread, mean + 4.302653 * spread), rel=1e-5
    )
    assert found.base.parameters == found.rows[0].parameters


def test_whoever_stops_it_goes_on_and_nothing_is_trained_twice(
    tmp_path: Path, whole: Carried, source: dict[str, Any], steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one variant: two seeds of the base are trained, and one of the variant is begun."""
    assert len(whole.steps) == 6 * STEPS
    there = values(ask(whole.folder, source, FIRST))
    assert not steps
    record = Session.record

    def interrupting(self: Session, row: dict[str, Any]) -> None:
        record(self, row)
        if len(steps) == 2 * STEPS + 5:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "record", interrupting)
        with pytest.raises(
            StoppedError, match="after step 5, which is saved; 2 of 4 runs have ended"
        ) as caught:
            ask(tmp_path, source, FIRST)
    assert (caught.value.exit_code, caught.value.where) == (130, str(tmp_path / "why-tiny"))
    assert len(steps) == 2 * STEPS + 5
    looked = ask(tmp_path, source, FIRST, only_look=True)
    assert len(steps) == 2 * STEPS + 5
    assert looked.verdict(looked.rows[0], PERPLEXITY) == "not trained yet"
    found = ask(tmp_path, source, FIRST)
    assert len(steps) == 4 * STEPS
    assert len(runs(tmp_path)) == 4
    assert values(found) == there, "bit for bit"
    assert values(ask(tmp_path, source, FIRST)) == there
    assert len(steps) == 4 * STEPS


def test_more_seeds_train_only_those(copy: Path, source: dict[str, Any], steps: list[int]) -> None:
    for run in runs(copy):
        if run.read_config().seed == 1338:
            shutil.rmtree(run.path)
    one = ask(copy, source, seeds=1)
    assert not steps
    difference = one.difference(one.rows[0], PERPLEXITY)
    assert difference is not None
    assert difference.interval is None
    assert "one seed: no interval" in one.verdict(one.rows[0], PERPLEXITY)
    two = ask(copy, source, seeds=2)
    assert set(steps) == {1338}
    assert len(steps) == 3 * STEPS
    assert two.base.outcomes[0] == one.base.outcomes[0]


def test_ctrl_c_while_a_run_is_measured_loses_nothing(
    tmp_path: Path, source: dict[str, Any], steps: list[int]
) -> None:
    def impatient(run: Any, progress: Any) -> float:
        raise KeyboardInterrupt

    stopping = replace(FIRST, measures=(Measure("loss", "", impatient),))
    with pytest.raises(StoppedError, match="between two trainings; 0 of 2 runs have ended"):
        ask(tmp_path, source, stopping, seeds=1)
    assert len(steps) == STEPS
    ask(tmp_path, source, FIRST, seeds=1)
    assert len(steps) == 2 * STEPS


def test_a_run_is_measured_once(copy: Path, source: dict[str, Any]) -> None:
    measured: list[int] = []

    def of(run: Any, progress: Callable[[int, int], None]) -> float:
        measured.append(run.config.seed)
        return float(run.config.seed)

    counting = replace(EXPERIMENT, measures=(PERPLEXITY, Measure("seed", "", of)))
    found = ask(copy, source, counting, seeds=1)
    again = ask(copy, source, counting, seeds=1)
    assert measured == [1337] * 3
    assert values(found) == values(again)
    facts = json.loads(Path(found.base.outcomes[0].path, "run.json").read_text())
    assert facts["measured"] == found.base.outcomes[0].values
    later = replace(EXPERIMENT, measures=(PERPLEXITY, LOSS))
    assert ask(copy, source, later, seeds=1).base.outcomes[0].values == {
        "perplexity": facts["measured"]["perplexity"],
        "loss": pytest.approx(math.log(facts["measured"]["perplexity"])),
    }


def test_a_variant_that_diverges_is_a_finding(copy: Path, source: dict[str, Any], steps: list[int]) -> None:
    wild = replace(EXPERIMENT, variants=(Variant("lr=1e30", {"optim.lr": 1e30}), *FIRST.variants))
    found = ask(copy, source, wild)
    assert [each.status for each in found.rows[0].outcomes] == ["diverged"] * 2
    assert found.verdict(found.rows[0], PERPLEXITY) == "diverged with 2 of 2 seeds"
    assert found.difference(found.rows[1], PERPLEXITY) is not None
    before = len(steps)
    assert 0 < before < 2 * STEPS, "the runs that were there are those of this experiment too"
    assert values(ask(copy, source, wild)) == values(found)
    assert len(steps) == before, "what has diverged is not tried again"


def test_a_value_that_is_not_finite_is_no_value(copy: Path, source: dict[str, Any]) -> None:
    lost = replace(EXPERIMENT, measures=(PERPLEXITY, Measure("lost", "", lambda run, progress: math.inf)))
    found = ask(copy, source, lost, seeds=1)
    assert [each.status for each in found.base.outcomes] == ["diverged"]
    facts = json.loads(Path(found.base.outcomes[0].path, "run.json").read_text())
    assert list(facts["measured"]) == ["perplexity"]


def test_another_text_is_another_experiment(tmp_path: Path, steps: list[int]) -> None:
    """The same name for a file that changed: none of its runs is this one's, and they stay."""
    file = reversed_digits(tmp_path)
    source = {"data.source": str(file)}
    ask(tmp_path, source, FIRST, seeds=1)
    with file.open("a") as more:
        more.write("123456\t654321\n")
    steps.clear()
    ask(tmp_path, source, FIRST, seeds=1)
    assert len(steps) == 2 * STEPS
    assert len(runs(tmp_path)) == 4


def test_what_a_kill_leaves_is_used_as_far_as_it_goes(
    copy: Path, whole: Carried, source: dict[str, Any], steps: list[int]
) -> None:
    """Killed before the first checkpoint, between two, and behind the last one, before it could say so."""
    nothing, half, almost, *_ = runs(copy)
    shutil.rmtree(nothing.checkpoints)
    shutil.rmtree(half.checkpoints / f"step_{STEPS:06d}")
    for run in (nothing, half, almost):
        run.update_facts(status="training", measured={})
    assert values(ask(copy, source)) == values(whole.found)
    assert len(steps) == STEPS + 3
    assert len(runs(copy)) == 7


def test_it_tells_where_it_is(whole: Carried, source: dict[str, Any]) -> None:
    said = [str(value) for name, value in whole.told if name == "on_message"]
    assert "variant 2 of 3, seed 1 of 2, h=1" in said
    assert any(text.startswith("dropout=0.5, seed 1338: perplexity ") for text in said)
    names = [name for name, _ in whole.told]
    assert names.count("on_start") == 6
    assert "on_end" not in names, "what one could do with a run of many is not told many times"
    again = Listening()
    ask(whole.folder, source, reporter=again)
    assert again.told == [("on_message", "6 of 6 runs are there already")]


@pytest.fixture
def damaged(copy: Path) -> Path:
    """Folders beside the runs that are none, or cannot be read."""
    for name, content in (("a", "{"), ("b", "{}")):
        folder = copy / "why-tiny" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(content)
        (folder / "config.toml").write_text("nonsense = 1\n")
    return copy


def test_what_is_no_run_is_passed_over(
    damaged: Path, whole: Carried, source: dict[str, Any], steps: list[int]
) -> None:
    shutil.rmtree(runs(damaged)[-1].path)
    assert values(ask(damaged, source)) == values(whole.found)
    assert len(steps) == STEPS


def test_language_models_can_be_asked_about_too(tmp_path: Path, text_file: Path, steps: list[int]) -> None:
    heads = Variant("h=1", {"model.n_heads": 1})
    flags = {**TINY, "train.sample_every": 0, "data.source": str(text_file)}
    experiment = Experiment("tiny", "Why heads?", "default", (LOSS,), (heads,), flags=flags)
    wanted = trials(experiment, experiment.variants, 2, {})
    assert {one.config.kind for one in wanted} == {"language"}
    found = ask(tmp_path, {}, experiment)
    assert found.difference(found.rows[0], LOSS) is not None
    assert len(steps) == 4 * TINY["train.steps"]
    assert values(ask(tmp_path, {}, experiment)) == values(found)
    assert len(steps) == 4 * TINY["train.steps"]
