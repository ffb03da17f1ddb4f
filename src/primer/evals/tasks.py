"""Tasks with right answers, by name or by file: .jsonl files of questions (`evals/questions.py`).

What stands between a question and an answer is the task's own (`DELIMITERS`); it is the gauntlet's, and
lm-evaluation-harness has the same.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from primer.assets import Asset, cache_dir, data_dir, find
from primer.errors import DataError, SurroundingsError, UsageError
from primer.evals.questions import LAYOUTS, Kind, Line, Question, layout_of, records

TASKS = (
    "arc_challenge",
    "arc_easy",
    "copa",
    "hellaswag",
    "lambada_openai",
    "openbook_qa",
    "piqa",
    "winograd_wsc",
    "winogrande",
)
"""What can be asked for by name: `eval/<name>.jsonl` under `$PRIMER_DATA`, or in the cache."""

DELIMITERS = {"arc_challenge": "\nAnswer: ", "arc_easy": "\nAnswer: ", "piqa": "\nAnswer: "}
"""What stands between a query and an answer; a space, where nothing is said here."""

BETWEEN_SHOTS = "\n\n"
"""What stands between two solved examples, and between the last one and the question."""

HELLASWAG = Asset(
    name="HellaSwag's validation part",
    path="eval/hellaswag_val.jsonl",
    url="https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl",
    sha256="0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588",
    licence="MIT",
    size=12_246_618,
)


@dataclass(frozen=True)
class Task:
    """Questions of one kind."""

    name: str
    kind: Kind
    questions: tuple[Question, ...]
    shots: int = 0
    """Solved examples in front of each question."""


def read_task(spec: str | Path, *, limit: int | None = None, shots: int = 0, seed: int = 0) -> Task:
    """A task by its name, or by a file's.

    limit: only the first so many questions. shots: that many other questions of the file, drawn from `seed`, stand
    solved in front of each one. Raises DataError for a line that is no question of this kind, with its number;
    SurroundingsError for a task that is not on this machine.
    """
    if (limit is not None and limit < 1) or shots < 0:
        raise UsageError(f"at least one question and no negative number of examples, got {limit}, {shots}")
    path = find_task(spec)
    name = "hellaswag" if path.name == Path(HELLASWAG.path).name else path.stem
    layout: str | None = None
    questions = []
    for where, record in records(path):
        layout = layout or layout_of(record)
        if layout is None:
            raise DataError(
                "this line has the keys of no task",
                where,
                'lines like {"query": …, "choices": […], "gold": 0}',
            )
        questions.append(LAYOUTS[layout].read(Line(record, where, DELIMITERS.get(name, " "))))
    if layout is None:
        raise DataError("a task without a line", where=str(path), hint="another file")
    task = Task(name, LAYOUTS[layout].kind, tuple(questions))
    return _with_shots(task, limit or len(questions), shots, seed)


def is_task(spec: str | Path) -> bool:
    """Whether `spec` names a task: a known one, one that lies where they are looked for, or a file of one.

    A file is one by its ending, .jsonl, and by the keys in its first line: all of a layout's, or all but one, so that
    a forgotten key is named as such.
    """
    if isinstance(spec, str) and (spec in TASKS or _lying(spec) is not None):
        return True
    path = Path(spec)
    if path.suffix.lower() != ".jsonl" or not os.path.isfile(path):
        return False
    try:
        _, record = next(records(path), ("", {}))
    except DataError:  # whoever reads it as a text will say what is wrong with it
        return False
    return layout_of(record) is not None


def find_task(spec: str | Path) -> Path:
    """The file of a task. A name wins over a file that is called the same: write `./copa` for the file."""
    if isinstance(spec, str) and (lying := _lying(spec)) is not None:
        return lying
    if spec == "hellaswag":
        return find(HELLASWAG)
    if isinstance(spec, str) and spec in TASKS:
        raise SurroundingsError(
            f"the task {spec} is not on this machine",
            hint=f"put {spec}.jsonl (llm-foundry, scripts/eval/local_data) into {cache_dir() / 'eval'}",
        )
    return Path(spec)


def _lying(name: str) -> Path | None:
    """`eval/<name>.jsonl` where such files are looked for, if it is there."""
    if not re.fullmatch(r"[\w-]+", name):
        return None
    places = [place / "eval" / f"{name}.jsonl" for place in (data_dir(), cache_dir()) if place]
    return next((place for place in places if os.path.isfile(place)), None)


def _with_shots(task: Task, limit: int, shots: int, seed: int) -> Task:
    """The first `limit` questions, each behind `shots` others, drawn for it alone."""
    every = task.questions
    if shots > len(every) - 1:
        raise UsageError(
            f"{shots} examples were asked for, and {task.name} has {len(every) - 1} other questions",
            hint=f"--shots={len(every) - 1}",
        )
    if not shots:
        return replace(task, questions=every[:limit])
    asked = []
    for number, question in enumerate(every[:limit]):
        drawn = np.random.default_rng((seed, number)).choice(len(every) - 1, size=shots, replace=False)
        others = (every[other + (other >= number)] for other in drawn.tolist())
        before = "".join(other.solved + BETWEEN_SHOTS for other in others)
        candidates = tuple((before + context, continuation) for context, continuation in question.candidates)
        asked.append(replace(question, candidates=candidates))
    return replace(task, questions=tuple(asked), shots=shots)
