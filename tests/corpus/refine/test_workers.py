"""Processes that die, hang, and end in errors: what becomes of their tasks."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import pytest

from primer.corpus.refine import workers
from primer.corpus.refine.workers import Workers
from primer.errors import DataError, PrimerError, SurroundingsError

PROGRAM = """
import json, os, signal, sys, time
def say(**fields): print(json.dumps(fields), flush=True)
say(event="ready")
for line in sys.stdin:
    job, task, *poison = json.loads(line)
    with open(sys.argv[1] + "/seen", "a") as file: print(job, task, *poison, file=file)
    for page in task.split(","):
        say(event="at", id=page)
        if page in poison: continue
        if page == "segfault": os.kill(os.getpid(), signal.SIGSEGV)
        if page == "killed": os.kill(os.getpid(), signal.SIGKILL)
        if page == "once" and not os.path.exists(sys.argv[1] + "/once"):
            open(sys.argv[1] + "/once", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if page == "hangs": time.sleep(60)
        if page == "lacks": say(event="error", kind="DataError", cause="no such model", where="m", hint="h")
        if page == "start" and not os.path.exists(sys.argv[1] + "/never"): pass
    say(event="progress", pages=len(task.split(",")), bytes=1)
    say(event="done")
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def done(place: Path, tasks: list[str], count: int = 2) -> tuple[dict[str, list[str]], int]:
    """(pages that were blamed, by task; pages that were done)."""
    blamed: dict[str, list[str]] = defaultdict(list)
    pages = 0

    def heard(more: int, size: int) -> None:
        nonlocal pages
        pages += more

    with Workers(place, count, heard, (sys.executable, str(place / "program.py"))) as each:
        each.run("job", tasks, lambda task: blamed[task], lambda task, page: blamed[task].append(page))
    return {task: found for task, found in blamed.items() if found}, pages


def test_every_task_is_done_once(place: Path) -> None:
    tasks = [f"a{number},b{number}" for number in range(9)]
    assert done(place, tasks) == ({}, 18)
    assert sorted((place / "seen").read_text().split("\n")[:-1]) == sorted(f"job {task}" for task in tasks)


def test_a_page_that_crashes_a_parser_is_blamed_at_once(place: Path) -> None:
    assert done(place, ["a,segfault,b", "c"]) == ({"a,segfault,b": ["segfault"]}, 4)


def test_a_process_that_is_killed_is_given_another_chance(place: Path) -> None:
    assert done(place, ["a,once,b"]) == ({}, 3)


def test_a_page_at_which_processes_are_killed_twice_is_blamed(place: Path) -> None:
    assert done(place, ["a,killed,b"]) == ({"a,killed,b": ["killed"]}, 3)
    assert (place / "seen").read_text().count("\n") == 3


def test_a_page_that_takes_for_ever_is_blamed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SILENCE", 0.5)
    assert done(place, ["hangs,a"]) == ({"hangs,a": ["hangs"]}, 2)


def test_an_error_of_a_task_is_raised_here_and_ends_the_others(place: Path) -> None:
    with pytest.raises(DataError) as caught:
        done(place, ["lacks", *map(str, range(50))])
    assert (caught.value.cause, caught.value.where, caught.value.hint) == ("no such model", "m", "h")


def test_a_program_that_does_not_start_is_an_error(place: Path) -> None:
    (place / "program.py").write_text("raise SystemExit(7)")
    with pytest.raises(PrimerError, match="ended with 7"):
        done(place, ["a"])


def test_a_task_that_dies_before_any_page_is_not_tried_for_ever(place: Path) -> None:
    (place / "program.py").write_text(
        "import json, os, sys\nprint(json.dumps({'event': 'ready'}), flush=True)\nsys.stdin.readline()\nos._exit(9)"
    )
    with pytest.raises(SurroundingsError, match="twice"):
        done(place, ["a"])


def test_processes_stay_for_the_next_job_and_are_replaced_in_time(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "TASKS_A_PROCESS", 3)
    (place / "program.py").write_text(PROGRAM.replace("print(job, task", "print(os.getpid(), job, task"))
    with Workers(place, 1, program=(sys.executable, str(place / "program.py"))) as each:
        each.run("first", ["a", "b"])
        each.run("second", ["c", "d"])
    lines = [line.split() for line in (place / "seen").read_text().splitlines()]
    assert [line[1:] for line in lines] == [["first", "a"], ["first", "b"], ["second", "c"], ["second", "d"]]
    first, *others = (line[0] for line in lines)
    assert [other == first for other in others] == [True, True, False]
