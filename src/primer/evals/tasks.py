"""Tasks with right answers: one question a line of a .jsonl file, read and checked.

Four layouts are known by their keys, the first three those of MosaicML's evaluation gauntlet (llm-foundry):

    query, choices, gold                                the likeliest of several endings (multiple choice)
    context_options, continuation, gold                 the context that makes one ending likeliest (schema)
    context, continuation                               the one ending there is (cloze)
    activity_label, ctx_a, ctx_b, endings, label        HellaSwag as its authors wrote it (Zellers et al. 2019)

Whatever the layout, a question becomes candidates: pairs of a context and a continuation. What stands between query
and answer is the task's own (`DELIMITERS`); it is the gauntlet's, and lm-evaluation-harness has the same.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from primer.assets import Asset, cache_dir, data_dir, find, reading
from primer.corpus.readers import MAX_LINE, require_regular
from primer.errors import DataError, SurroundingsError, UsageError

Kind = Literal["multiple_choice", "schema", "cloze"]

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


@dataclass(frozen=True, slots=True)
class Question:
    """Candidates (context, continuation), of which number `gold` is right; where the line stands."""

    candidates: tuple[tuple[str, str], ...]
    gold: int
    where: str

    @property
    def solved(self) -> str:
        """The question with its right answer, as an example."""
        return "".join(self.candidates[self.gold])


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
    for where, record in _records(path):
        layout = layout or _layout(record)
        if layout is None:
            raise DataError(
                "this line has the keys of no task",
                where,
                'lines like {"query": …, "choices": […], "gold": 0}',
            )
        questions.append(LAYOUTS[layout].read(_Line(record, where, DELIMITERS.get(name, " "))))
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
        _, record = next(_records(path), ("", {}))
    except DataError:  # whoever reads it as a text will say what is wrong with it
        return False
    return _layout(record) is not None


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


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, JSON object) of every line that is not empty."""
    require_regular(path)
    with reading(path) as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            where = f"{path}, line {number}"
            if len(line) > MAX_LINE:
                raise DataError(
                    f"a line of more than {MAX_LINE >> 20} MiB", where, hint="one question a line"
                )
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield where, _record(line, where)


def _record(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise DataError(
            f"byte {error.start} of the line is not UTF-8", where, "iconv -t utf-8 over the file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError("this line is not JSON", where, hint="one JSON object a line") from error
    if not isinstance(record, dict):
        raise DataError("this line is no JSON object", where, hint="one JSON object a line")
    return record


@dataclass(frozen=True)
class _Line:
    """One record, and how to take fields out of it."""

    record: Mapping[str, Any]
    where: str
    delimiter: str

    def get(self, key: str) -> Any:
        if key not in self.record:
            raise DataError(f'the key "{key}" is missing', self.where, "the same keys in every line")
        return self.record[key]

    def text(self, key: str) -> str:
        return self._checked(self.get(key), f'"{key}"')

    def texts(self, key: str) -> list[str]:
        """Two strings or more, none of them empty."""
        values = self.get(key)
        if not isinstance(values, list) or len(values) < 2:
            raise DataError(f'"{key}" is no list of two or more', self.where, "correct the line")
        found = [self._checked(value, f'"{key}" number {n}') for n, value in enumerate(values)]
        if "" in found:
            raise DataError(f'"{key}" number {found.index("")} is empty', self.where, "correct the line")
        return found

    def index(self, key: str, count: int) -> int:
        """The number of one of `count` candidates; a digit as text will do, as some copies of HellaSwag have it."""
        value = self.get(key)
        if isinstance(value, str) and value.isdecimal() and value.isascii():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise DataError(f'"{key}" is no whole number', self.where, f"0 … {count - 1}")
        if not 0 <= value < count:
            raise DataError(
                f'"{key}" is {value}, and there are {count} to choose from', self.where, f"0 … {count - 1}"
            )
        return value

    def joined(self, context: str) -> str:
        """A context up to where the continuation begins."""
        return context.rstrip() + self.delimiter

    def _checked(self, value: Any, name: str) -> str:
        if not isinstance(value, str):
            raise DataError(f"{name} is no text", self.where, "correct the line")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"half a surrogate pair at character {error.start} of {name}", self.where, "drop it"
            ) from error
        return value


def _choices(line: _Line) -> Question:
    context, choices = line.joined(line.text("query")), line.texts("choices")
    return Question(tuple((context, each) for each in choices), line.index("gold", len(choices)), line.where)


def _schema(line: _Line) -> Question:
    options, continuation = line.texts("context_options"), _ending(line)
    candidates = tuple((line.joined(option), continuation) for option in options)
    return Question(candidates, line.index("gold", len(options)), line.where)


def _cloze(line: _Line) -> Question:
    return Question(((line.joined(line.text("context")), _ending(line)),), 0, line.where)


def _ending(line: _Line) -> str:
    continuation = line.text("continuation")
    if not continuation.strip():
        raise DataError('"continuation" is empty', line.where, "correct the line")
    return continuation


def _hellaswag(line: _Line) -> Question:
    """As lm-evaluation-harness asks it: `activity: context`, the unfinished sentence capitalised, without brackets."""
    context = f"{line.text('activity_label')}: {line.text('ctx_a')} {line.text('ctx_b').capitalize()}"
    endings = [_without_brackets(ending) for ending in line.texts("endings")]
    if "" in endings:
        raise DataError(f'"endings" number {endings.index("")} is empty', line.where, "correct the line")
    context = _without_brackets(context) + line.delimiter
    return Question(tuple((context, each) for each in endings), line.index("label", len(endings)), line.where)


def _without_brackets(text: str) -> str:
    """WikiHow's marks ([title], [step], …) taken out: a title ends a sentence, the others are nothing."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


@dataclass(frozen=True)
class _Layout:
    keys: tuple[str, ...]
    kind: Kind
    read: Callable[[_Line], Question]


LAYOUTS = {
    "choices": _Layout(("query", "choices", "gold"), "multiple_choice", _choices),
    "schema": _Layout(("context_options", "continuation", "gold"), "schema", _schema),
    "cloze": _Layout(("context", "continuation"), "cloze", _cloze),
    "hellaswag": _Layout(
        ("activity_label", "ctx_a", "ctx_b", "endings", "label"), "multiple_choice", _hellaswag
    ),
}


def _layout(record: Mapping[str, Any]) -> str | None:
    """The layout whose keys a line has, or None. Of three keys or more one may be missing, unless it has a "text"."""
    missing = {name: sum(key not in record for key in each.keys) for name, each in LAYOUTS.items()}
    best = min(missing, key=lambda name: missing[name])
    allowed = len(LAYOUTS[best].keys) > 2 and "text" not in record
    return best if missing[best] <= allowed else None


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
