"""One question with candidates, of which one is right, out of one line of a .jsonl file.

Four layouts are known by their keys, the first three those of MosaicML's evaluation gauntlet (llm-foundry):

    query, choices, gold                                the likeliest of several endings (multiple choice)
    context_options, continuation, gold                 the context that makes one ending likeliest (schema)
    context, continuation                               the one ending there is (cloze)
    activity_label, ctx, endings, label                 HellaSwag as its authors wrote it (Zellers et al. 2019)

Whatever the layout, a question becomes candidates: pairs of a context and a continuation.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from primer.assets import reading
from primer.corpus.readers import MAX_LINE, require_regular
from primer.errors import DataError

Kind = Literal["multiple_choice", "schema", "cloze"]


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


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
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
class Line:
    """One record, and how to take fields out of it; DataError for what is not there, or is something else."""

    record: Mapping[str, Any]
    where: str
    delimiter: str

    def get(self, key: str) -> Any:
        """What stands under a key."""
        if key not in self.record:
            raise DataError(f'the key "{key}" is missing', self.where, "the same keys in every line")
        return self.record[key]

    def text(self, key: str) -> str:
        """A string."""
        return self._checked(self.get(key), f'"{key}"')

    def texts(self, key: str, *, may_be_empty: bool = False) -> list[str]:
        """Two strings or more."""
        values = self.get(key)
        if not isinstance(values, list) or len(values) < 2:
            raise DataError(f'"{key}" is no list of two or more', self.where, "correct the line")
        found = [self._checked(value, f'"{key}" number {n}') for n, value in enumerate(values)]
        if "" in found and not may_be_empty:
            raise DataError(f'"{key}" number {found.index("")} is empty', self.where, "correct the line")
        return found

    def index(self, key: str, count: int) -> int:
        """The number of one of `count` candidates; a digit as text will do, as some copies of HellaSwag have it."""
        value = self.get(key)
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
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


def _choices(line: Line) -> Question:
    context, choices = line.joined(line.text("query")), line.texts("choices")
    return Question(tuple((context, each) for each in choices), line.index("gold", len(choices)), line.where)


def _schema(line: Line) -> Question:
    options, continuation = line.texts("context_options"), _ending(line)
    candidates = tuple((line.joined(option), continuation) for option in options)
    return Question(candidates, line.index("gold", len(options)), line.where)


def _cloze(line: Line) -> Question:
    return Question(((line.joined(line.text("context")), _ending(line)),), 0, line.where)


def _ending(line: Line) -> str:
    continuation = line.text("continuation")
    if not continuation.strip():
        raise DataError('"continuation" is empty', line.where, "correct the line")
    return continuation


def _hellaswag(line: Line) -> Question:
    """As lm-evaluation-harness asks it: `activity: context`, the unfinished sentence capitalised, without brackets."""
    own = line.record
    begun = line.text("ctx_a") if "ctx_a" in own else line.text("ctx")
    unfinished = line.text("ctx_b") if {"ctx_a", "ctx_b"} <= own.keys() else ""
    context = _without_brackets(f"{line.text('activity_label')}: {begun} {unfinished.capitalize()}")
    endings = [_without_brackets(ending) for ending in line.texts("endings", may_be_empty=True)]
    candidates = tuple((context + line.delimiter, ending) for ending in endings)
    return Question(candidates, line.index("label", len(endings)), line.where)


def _without_brackets(text: str) -> str:
    """WikiHow's marks ([title], [step], …) taken out: a title ends a sentence, the others are nothing."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


@dataclass(frozen=True)
class Layout:
    """What a line looks like, and how it becomes a question."""

    keys: tuple[str, ...]
    kind: Kind
    read: Callable[[Line], Question]


LAYOUTS = {
    "choices": Layout(("query", "choices", "gold"), "multiple_choice", _choices),
    "schema": Layout(("context_options", "continuation", "gold"), "schema", _schema),
    "cloze": Layout(("context", "continuation"), "cloze", _cloze),
    "hellaswag": Layout(("activity_label", "ctx", "endings", "label"), "multiple_choice", _hellaswag),
}


def layout_of(record: Mapping[str, Any]) -> str | None:
    """The layout whose keys a line has, or None. Of three keys or more one may be missing, unless it has a "text"."""
    missing = {name: sum(key not in record for key in each.keys) for name, each in LAYOUTS.items()}
    best = min(missing, key=lambda name: missing[name])
    allowed = len(LAYOUTS[best].keys) > 2 and "text" not in record
    return best if missing[best] <= allowed else None
