"""What filters are worth: the same crawl by recipes that differ in one stage, and a tiny training of each, for real."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from crawls import archive, page, prose, record
from primer.cli.main import main
from primer.config import dotted, to_dict
from primer.corpus.refine.kept import Corpus
from primer.data.shards import ShardDirectory
from primer.errors import DataError, SurroundingsError, UsageError
from primer.experiments import filters
from primer.experiments.carry_out import carry_out
from primer.experiments.filters import ARMS, Ablation, Arm, parsed
from primer.experiments.trial import Trial, trials
from primer.experiments.verdict import Findings
from primer.recipes.directory import every
from primer.recipes.loaded import Run
from setups import TINY

BRACES = "function f() { return the value of it; } is here."
SMALL = {
    **TINY,
    "train.steps": 6,
    "train.batch_size": 4,
    "train.sample_every": 0,
    "train.checkpoint_every": 6,
}
FLAGS = {"tokens.validation_fraction": 0.3}
BASE = "fineweb-fast"


def crawl(path: Path) -> Path:
    """Pages that all rules keep, and as many that C4's alone has something against."""
    pages = [page(prose(number)) for number in range(12)]
    pages += [page([*prose(100 + number), BRACES]) for number in range(12)]
    return archive(path, [record(f"http://x.example/{n}", each) for n, each in enumerate(pages)])


def novels(folder: Path) -> list[str]:
    """A folder of data that holds passages in LAMBADA's place, and those passages."""
    passages = [f"It was a night of the year {number}, and nobody slept ." for number in range(40)]
    path = folder / filters.OTHER_SOURCE
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"context": each, "text": "?"}) + "\n" for each in passages), "utf-8")
    return passages


@dataclass(frozen=True)
class Done:
    """An ablation that was carried out."""

    ablation: Ablation
    wanted: list[Trial]
    runs: Path
    passages: list[str]
    said: list[str]
    found: Findings


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    pytest.importorskip("pyarrow", reason="corpora are of the extra [corpus]")
    folder = tmp_path_factory.mktemp("ablation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIMER_DATA", str(folder / "data"))
        passages = novels(folder / "data")
        said: list[str] = []
        inputs = (str(crawl(folder / "crawl.warc.gz")),)
        ablation = Ablation(BASE, inputs, parsed(["no-c4: c4.on=false"]), FLAGS, folder=folder / "corpora")
        experiment = ablation.experiment(SMALL, 2)
        ablation.prepare(said.append)
        wanted = trials(experiment, experiment.variants, experiment.seeds, {})
        found = carry_out(experiment, wanted, runs_dir=folder / "runs")
        yield Done(ablation, wanted, folder / "runs", passages, said, found)


def test_each_arm_lacks_one_thing_of_the_base() -> None:
    """By name: no-c4 is the base but for C4's rules; no-filters is without all four tables of rules."""
    recipes = Ablation(BASE, ()).recipes()
    base = dotted(to_dict(recipes.pop(BASE)))
    assert list(recipes) == [arm.name for arm in ARMS]
    other = dotted(to_dict(recipes.pop("trafilatura")))
    assert {key: other[key] for key in base if other[key] != base[key]} == {
        "extract.extractor": "trafilatura"
    }
    for name, recipe in recipes.items():
        mine = dotted(to_dict(recipe))
        changed = {key for key in base if mine[key] != base[key]}
        what = name.removeprefix("no-")
        expected = {
            "filters": {f"{stage}.on" for stage in ("repetition", "quality", "c4", "fineweb")},
            "dedup": {"dedup.exact", "dedup.minhash"},
        }.get(what, {f"{what}.on"})
        assert changed == expected
        assert not any(mine[key] for key in changed)


def test_flags_are_of_all_recipes_and_an_arms_own_lie_over_them() -> None:
    arms = (Arm("short", {"quality.min_words": 10}), Arm("no-c4", {"c4.on": False}))
    found = Ablation(BASE, (), arms, {"quality.min_words": 70}).recipes()
    assert {name: each.quality.min_words for name, each in found.items()} == {
        BASE: 70,
        "short": 10,
        "no-c4": 70,
    }
    assert [found[name].c4.on for name in found] == [True, True, False]


def test_arms_are_read_as_they_are_typed() -> None:
    assert parsed(["no-c4: c4.on=false", "two:quality.min_words=7  language.keep=[\"de\"] extract.extractor=none"]) == (
        Arm("no-c4", {"c4.on": False}),
        Arm("two", {"quality.min_words": 7, "language.keep": ["de"], "extract.extractor": "none"}),
    )  # fmt: skip
    assert parsed([]) == ()


@pytest.mark.parametrize("word", ["", "no-c4", ": c4.on=false", "no-c4:", "no-c4: c4.on", "a: c4.on=false x"])
def test_what_is_no_arm_is_refused_with_an_example(word: str) -> None:
    with pytest.raises(UsageError, match="not an arm") as error:
        parsed([word])
    assert error.value.hint == '--arm="no-c4: c4.on=false"'
    parsed([str(error.value.hint).partition('"')[2].removesuffix('"')])


@pytest.mark.parametrize(
    ("recipe", "arm", "said"),
    [
        ("finweb", {}, "there is no recipe 'finweb'"),
        (BASE, {"c5.on": False}, "c5"),
        (BASE, {"c4.on": "perhaps"}, "c4.on"),
        (BASE, {"records.max_bytes": 1}, "records.max_bytes"),
    ],
)
def test_recipes_that_are_none_are_refused_before_anything_is_made(
    tmp_path: Path, recipe: str, arm: dict[str, Any], said: str
) -> None:
    path = crawl(tmp_path / "crawl.warc.gz")
    ablation = Ablation(recipe, (str(path),), (Arm("x", arm),), folder=tmp_path / "out")
    with pytest.raises(UsageError, match=said):
        ablation.prepare(lambda _: None)
    assert not (tmp_path / "out").exists()


def test_nothing_to_filter_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRIMER_DATA", raising=False)
    asked = filters.experiment({})
    assert asked.prepare is not None
    with pytest.raises(SurroundingsError, match="there is no crawl") as error:
        asked.prepare(lambda _: None)
    assert (error.value.where, error.value.hint) == (
        "PRIMER_DATA", "primer corpus ablate fineweb-fast crawl.warc.gz",
    )  # fmt: skip
    missing = Ablation(BASE, (str(tmp_path / "missing.warc.gz"),), folder=tmp_path / "out")
    with pytest.raises(DataError, match="no file or folder"):
        missing.prepare(lambda _: None)


def test_an_arm_that_keeps_nothing_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.warc.gz", [record("http://x.example/", page([BRACES]))])
    ablation = Ablation(BASE, (str(path),), (), folder=tmp_path / "out")
    with pytest.raises(DataError, match="none of the 0 documents") as error:
        ablation.prepare(lambda _: None)
    assert error.value.where == str(tmp_path / "out" / BASE)


def test_the_place_follows_from_what_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one = Ablation(BASE, ("a.warc",))
    assert one.place().is_relative_to(tmp_path)
    assert Ablation(BASE, ("a.warc",)).place() == one.place()
    others = [
        Ablation(BASE, ("b.warc",)),
        Ablation("fineweb", ("a.warc",)),
        Ablation(BASE, ("a.warc",), ARMS[:2]),
        Ablation(BASE, ("a.warc",), flags={"quality.min_words": 7}),
    ]
    assert len({each.place() for each in [one, *others]}) == 5
    assert Ablation(BASE, ("a.warc",), folder=tmp_path / "here").place() == tmp_path / "here"


def test_the_question_is_asked_of_the_crawl_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = filters.experiment({"data.source": "mine.warc.gz"})
    assert (found.name, found.recipe, found.base.name, found.seeds) == ("filters", "tiny", BASE, 5)
    assert found.asked == ("data.source",)
    assert [each.name for each in found.variants] == [arm.name for arm in ARMS]
    assert found.flags["data.source"] == str(Ablation(BASE, ("mine.warc.gz",)).source(BASE))
    assert "python-docs" in found.measures[0].about or "lambada" in found.measures[0].about
    sample = tmp_path / filters.CRAWL
    sample.parent.mkdir()
    sample.touch()
    monkeypatch.setenv("PRIMER_DATA", str(tmp_path))
    assert filters.experiment({}).flags["data.source"] == str(Ablation(BASE, (str(sample),)).source(BASE))


def test_the_text_that_scores_is_of_another_source(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passages from novels where they are, what Python carries where they are not, and what a person names before."""
    held_out = (done.ablation.place() / "held-out.txt").read_text("utf-8")
    assert held_out == "\n\n".join(done.passages)
    for name in (BASE, "no-c4"):
        texts = [each.text for each in Corpus.open(done.ablation.place() / name).documents()]
        assert not any(passage in text for passage in done.passages for text in texts)
    assert done.ablation.other_source() in done.found.experiment.measures[0].about
    monkeypatch.delenv("PRIMER_DATA")
    assert Ablation(BASE, ()).other_source() == "python-docs"
    assert Ablation(BASE, (), held_out="novel.txt").other_source() == "novel.txt"


def test_only_the_beginning_of_the_other_source_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "HELD_OUT", 25)
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": each * 10}) + "\n" for each in "abcd"), "utf-8"
    )
    Ablation(BASE, (), held_out=str(tmp_path / "a.jsonl"))._write_held_out(tmp_path / "held-out.txt")
    assert (tmp_path / "held-out.txt").read_text("utf-8") == "\n\n".join(["a" * 10, "b" * 10, "c" * 5])


def test_all_arms_train_on_equally_many_tokens_of_one_tokenizer(done: Done) -> None:
    """C4 takes the half of the pages that have a brace: without it there is twice as much, of which half is left."""
    sizes = {name: Corpus.open(done.ablation.place() / name).size for name in (BASE, "no-c4")}
    assert sizes == {BASE: 12, "no-c4": 24}
    whole = [ShardDirectory.open(done.ablation.place() / name / "shards") for name in sizes]
    equal = [ShardDirectory.open(done.ablation.source(name)) for name in sizes]
    tokens = [each.counts["train"]["tokens"] for each in (*whole, *equal)]
    assert tokens[2] == tokens[3] == tokens[0] < tokens[1]
    assert len({each.tokenizer.fingerprint for each in (*whole, *equal)}) == 1
    lines = [
        (done.ablation.source(name) / "documents.jsonl").read_text("utf-8").splitlines() for name in sizes
    ]
    ids = [
        {json.loads(line)["id"] for line in each if json.loads(line)["split"] == "train"} for each in lines
    ]
    assert ids[1] - ids[0], "some of what C4 drops is trained on"


def test_what_the_arms_train_on_is_all_that_differs(done: Done) -> None:
    assert [(each.variant.name, each.seed) for each in done.wanted] == [
        (name, seed) for name in (BASE, "no-c4") for seed in (1337, 1338)
    ]
    of_base, of_arm = (dotted(to_dict(each.config)) for each in (done.wanted[0], done.wanted[2]))
    changed = {key for key in of_base if of_base[key] != of_arm[key]} - {"recipe", "about"}
    assert changed == {"data.source", "data.tokenizer"}, "the tokenizer's copy beside the shards"
    assert (of_base["data.source"], of_arm["data.source"]) == tuple(
        str(done.ablation.source(name)) for name in (BASE, "no-c4")
    )
    assert done.said[:2] == [f"{BASE}: refining", "no-c4: refining"]
    assert len(done.said) == 4


def test_the_verdict_is_the_paired_difference(done: Done) -> None:
    """From the runs' own words to the interval, by another way: with two pairs, 12.7062 · |a − b| / 2 on each side."""
    held_out = done.ablation.place() / "held-out.txt"
    bits: dict[tuple[str, int], float] = {}
    for run in every(done.runs / "why-filters"):
        config = run.read_config()
        arm = Path(str(dotted(to_dict(config))["data.source"])).parent.name
        score = Run(run).evaluate(held_out, unknown="skip")
        bits[arm, config.seed] = score["loss"] / math.log(2) * score["tokens"] / len(held_out.read_bytes())
    assert len(bits) == 4
    one, other = (bits["no-c4", seed] - bits[BASE, seed] for seed in (1337, 1338))
    (measure,), (row,) = done.found.experiment.measures, done.found.rows
    difference = done.found.difference(row, measure)
    assert difference is not None
    assert difference.by_seed == pytest.approx({1337: one, 1338: other}, abs=1e-6)
    assert difference.mean == pytest.approx((one + other) / 2, abs=1e-6)
    half = 12.7062 * abs(one - other) / 2
    assert difference.interval == pytest.approx((difference.mean - half, difference.mean + half), abs=1e-5)
    assert measure.better == "lower"
    assert one != other


def test_asked_again_nothing_is_made_again(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.runs.rglob("*.json*")}
    done.ablation.prepare(lambda _: None)
    again = carry_out(done.found.experiment, done.wanted, runs_dir=done.runs)
    assert again.to_dict() == done.found.to_dict()
    assert {path: path.stat().st_mtime_ns for path in done.runs.rglob("*.json*")} == before


def test_another_text_that_scores_is_not_taken_for_the_one_before(done: Done, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("Another text altogether .\n", "utf-8")
    with pytest.raises(UsageError, match="another text"):
        replace(done.ablation, held_out=str(tmp_path / "other.txt")).prepare(lambda _: None)


def test_other_thresholds_in_the_same_folder_are_refused(done: Done) -> None:
    """The shards that are there are of other documents."""
    flags = {**FLAGS, "quality.min_words": 330}
    other = Ablation(BASE, done.ablation.inputs, (), flags, folder=done.ablation.place())
    with pytest.raises(UsageError, match="other shards are here"):
        other.prepare(lambda _: None)


def test_the_command_needs_a_recipe_and_a_crawl(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], [BASE]):
        assert main(["corpus", "ablate", *words]) == 2
        assert "primer corpus ablate fineweb-fast crawl.warc.gz" in capsys.readouterr().err
    assert main(["corpus", "ablate", "finweb", "a.warc.gz"]) == 2
    assert "there is no recipe 'finweb'" in capsys.readouterr().err


@pytest.mark.parametrize("names", [("a", "a"), (BASE,), ("../a",), ("held-out.txt",)])
def test_arms_have_names_of_their_own(names: tuple[str, ...]) -> None:
    arms = parsed([f"{name}: c4.min_sentences={number}" for number, name in enumerate(names)])
    with pytest.raises(UsageError, match="arm"):
        Ablation(BASE, ("a.warc",), arms).recipes()
