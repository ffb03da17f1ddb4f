import json
from pathlib import Path

import pytest

from primer import lock
from primer.config import to_toml
from primer.errors import DataError
from primer.lock import RunLock
from primer.recipes.config import RunConfig
from primer.recipes.directory import find
from primer.recipes.resolve import resolve
from primer.recipes.summary import summaries


@pytest.fixture
def make(tmp_path: Path):
    def maker(name: str, rows: list[dict], status: str = "finished", config: RunConfig | None = None) -> Path:
        run = tmp_path / f"2026-01-01-lecture-{name}"
        run.mkdir()
        config = config or resolve("lecture", flags={"model.vocab_size": 65}).config
        (run / "config.toml").write_text(to_toml(config))
        facts = {
            "data": {"path": "", "fingerprint": ""},
            "status": status,
            "started": f"2026-01-01T00:00:{len(list(tmp_path.iterdir())):02}+00:00",
        }
        (run / "run.json").write_text(json.dumps(facts))
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run

    return maker


def test_a_run_in_a_few_figures(make, tmp_path: Path) -> None:
    rows = [{"step": step, "loss": float(step)} for step in range(1, 31)]
    rows += [{"step": 10, "val_loss": 2.0}, {"step": 20, "val_loss": 1.5}, {"step": 30, "val_loss": 1.75}]
    rows += [{"step": 31, "loss": "nan"}]
    run = make("aaaaaa", rows)
    (one,) = summaries(tmp_path)
    assert (one.id, one.path, one.recipe) == ("aaaaaa", run, "lecture")
    assert (one.step, one.steps) == (31, 5000)
    assert one.train_loss == sum(range(11, 31)) / 20
    assert one.val_loss == 1.5
    assert one.parameters == 6_650_945
    assert one.status == "finished"


def test_the_oldest_comes_first_and_a_run_without_steps_is_one(make, tmp_path: Path) -> None:
    make("bbbbbb", [])
    make("aaaaaa", [])
    found = summaries(tmp_path)
    assert [one.id for one in found] == ["bbbbbb", "aaaaaa"]
    assert (found[0].step, found[0].train_loss, found[0].val_loss) == (0, None, None)


def test_a_run_that_nobody_holds_and_that_never_ended_was_killed(make, tmp_path: Path) -> None:
    run = make("aaaaaa", [], status="training")
    with RunLock(run):
        assert summaries(tmp_path)[0].status == "training"
    assert summaries(tmp_path)[0].status == "killed"


@pytest.mark.parametrize("name", ["config.toml", "run.json"])
def test_a_damaged_run_does_not_hide_the_others(make, tmp_path: Path, name: str) -> None:
    (make("aaaaaa", []) / name).write_bytes(b"\xff\x00")
    make("bbbbbb", [])
    assert sorted(one.status for one in summaries(tmp_path)) == ["damaged", "finished"]


def test_a_run_of_another_version_does_not_hide_the_others(make, tmp_path: Path) -> None:
    with (make("aaaaaa", []) / "config.toml").open("a") as file:
        file.write("\n[future]\nx = 1\n")
    make("bbbbbb", [])
    assert sorted(one.status for one in summaries(tmp_path)) == ["damaged", "finished"]
    with pytest.raises(DataError, match="not one of this version"):
        find("aaaaaa", tmp_path).read_config()


def test_listing_runs_disturbs_none_of_them(make, tmp_path: Path) -> None:
    run = make("aaaaaa", [], status="training")
    (run / "lock").write_text("process 7\n")
    assert summaries(tmp_path)[0].status == "killed"
    assert (run / "lock").read_text() == "process 7\n", "the lock keeps its holder's name"
    with (run / "lock").open() as first:
        lock._take(first, shared=True)
        assert not lock.is_held(run), "two who ask are not in each other's way"


def test_no_folder_no_runs(tmp_path: Path) -> None:
    assert summaries(tmp_path / "nowhere") == []
