"""The first promise: a run that was killed and resumed is the run that was never stopped, bit for bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from setups import reversed_digits

SCRIPT = Path(__file__).with_name("kill_runs.py")


def kill(folder: Path, text: Path, kills: int, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(text), str(kills), str(seed)],
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["whole"]["step"] == "24"
    assert results["whole"]["left over"] == "[]"
    assert len(results["killed"]) == kills
    assert sum(each["exit"] == -9 for each in results["killed"]) >= kills * 0.8, "most must die at work"
    assert len({each["after step"] for each in results["killed"]}) >= min(kills, 6), "at different moments"
    for each in results["killed"]:
        same = {key: each[key] for key in results["whole"]}
        assert same == results["whole"], f"killed after step {each['after step']}"


@pytest.mark.timeout(600)
def test_twenty_kills_change_nothing(tmp_path: Path, text_file: Path) -> None:
    kill(tmp_path, text_file, kills=20, seed=0)


@pytest.mark.timeout(600)
def test_kills_change_nothing_on_pairs_either(tmp_path: Path) -> None:
    kill(tmp_path, reversed_digits(tmp_path), kills=6, seed=7)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_hundred_kills_change_nothing(tmp_path: Path, text_file: Path) -> None:
    kill(tmp_path, text_file, kills=200, seed=1)
