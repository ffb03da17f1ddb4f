"""Whom a death is blamed on, and what a worker does when nobody is left to work for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from crawls import page, prose
from primer.corpus.refine import plan as planning
from primer.corpus.refine import stages
from primer.corpus.refine.pages import Page, as_batch
from primer.corpus.refine.plan import keep, make
from primer.corpus.refine.recipe import resolve
from primer.corpus.refine.tools import Tools
from primer.errors import UsageError


def quiet(*_: object) -> None:
    pass


class Death(BaseException):
    """As a process would die."""


@pytest.mark.parametrize("stage", ["text", "language", "statistics", "judgement"])
@pytest.mark.parametrize("kind", ["html", "text"])
def test_it_is_known_at_which_page_a_process_dies_in_any_stage(
    stage: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(number: int) -> Page:
        body = prose(number)
        if kind == "html":
            return Page(f"a#{number}", "a", payload=page(body))
        return Page(f"a#{number}", "a", text="\n".join(body))

    done = getattr(stages, stage)

    def dies(row: dict[str, Any], *rest: Any) -> None:
        if row["id"] == "a#2":
            raise Death
        done(row, *rest)

    monkeypatch.setattr(stages, stage, dies)
    seen: list[str] = []
    tools = Tools(resolve("fineweb-fast").config)
    with pytest.raises(Death):
        stages.annotate(as_batch([one(number) for number in range(4)]), tools, seen.append)
    assert seen == ["a#0", "a#1", "a#2"]


@pytest.mark.parametrize("kind", ["html", "text"])
def test_nothing_is_done_with_a_page_that_was_blamed(kind: str) -> None:
    body = prose(1)
    guilty = Page("a#1", "a", payload=page(body)) if kind == "html" else Page("a#1", "a", text=" ".join(body))
    tools = Tools(resolve("fineweb-fast").config)
    (row,) = stages.annotate(as_batch([guilty]), tools, quiet, frozenset({"a#1"})).to_pylist()
    assert (row["extract_reason"], row["text"], row["words"]) == ("crashed", None, None)


@pytest.mark.skipif(not hasattr(os, "getppid"), reason="needs processes that have parents")
def test_a_worker_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """The one between is killed, and takes nothing with it by itself."""
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": " ".join(prose(1))}) + "\n", "utf-8")
    keep_plan(texts, tmp_path / "out")
    between = (
        "import subprocess, sys, time\n"
        f"worker = subprocess.Popen([sys.executable, '-m', 'primer.corpus.refine.worker', {str(tmp_path / 'out')!r}],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "worker.stdout.readline()\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", between], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    pipe = os.open(f"/proc/{worker}/fd/0", os.O_WRONLY) if sys.platform == "linux" else None  # stays open
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    limit = time.monotonic() + 10
    while is_alive(worker):
        assert time.monotonic() < limit, "it works on for nobody"
        time.sleep(0.05)
    if pipe is not None:
        os.close(pipe)


def keep_plan(texts: Path, out: Path) -> None:
    out.mkdir()
    keep(make(resolve("plain").config, [texts], out, quiet))


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_same_inputs_are_cut_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": " ".join(prose(1))}) + "\n", "utf-8")
    keep_plan(texts, tmp_path / "out")
    monkeypatch.setattr(planning, "stretches", lambda each, goal: pytest.fail("cut again"))
    again = make(resolve("plain", {"quality.min_words": 7}).config, [texts], tmp_path / "out", quiet)
    assert [unit.name for unit in again.units]
    texts.write_text("\n", "utf-8")
    with pytest.raises(pytest.fail.Exception):
        make(resolve("plain").config, [texts], tmp_path / "out", quiet)


def test_a_threshold_below_which_nothing_is_measured_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing is measured"):
        resolve("fineweb-fast", {"language.threshold": 0.1})
    assert resolve("fineweb-fast", {"language.threshold": 0.1, "language.keep": []})
