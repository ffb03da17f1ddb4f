"""The items of an evaluation, each as the text that must not be seen: a question and its right answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from primer.corpus.readers import (
    Decoding,
    read_records,
    read_text,
    require_regular,
    unpacked_suffix,
    unpacking,
)
from primer.errors import DataError

MOST_BYTES = 1 << 30
"""A .json file is held as a whole."""

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_PROMPT = re.compile(r"\s*Q(?:uestion)?\s*:\s*")
"""What a layout, and not the author of the item, put before a question."""


def read_items(path: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of each item of a file, numbered from 1.

    .jsonl (packed or not): a line is an item, numbered by its line. .json: an element of the list, or of the longest
    list in the object, else the whole. .txt and .md: a paragraph, or a line where no line is blank. DataError for any
    other file.
    """
    require_regular(path)
    suffix = unpacked_suffix(path)
    if suffix == ".jsonl":
        yield from ((number, passage(record)) for number, record in read_records(path, Decoding()))
    elif suffix == ".json":
        yield from enumerate(map(passage, _elements(path)), 1)
    elif suffix in (".txt", ".md"):
        yield from enumerate(_paragraphs(path), 1)
    else:
        raise DataError("this is no file of evaluations", str(path), ".jsonl, .json, .txt or .md")


def passage(record: Any) -> str:
    """What of a record must not be seen.

    Where its layout is known (MosaicML's gauntlet, HellaSwag, MMLU): the question or context, then the right answer,
    joined as a page that gives it away has them. Wrong answers are left out: they alone say nothing. Else all strings
    anywhere in the record, joined in its order, since none can be told from the others.
    """
    match record:
        case {"query": str(asked), "choices": list(choices), "gold": gold}:
            parts = [_PROMPT.sub("", asked, count=1), *_right(choices, gold)]
        case {"context_options": list(options), "continuation": str(ending), "gold": gold}:
            parts = [*_right(options, gold), ending]
        case {"context": str(begun), "continuation": str(ending)}:
            parts = [begun, ending]
        case {"ctx": str(begun), "endings": list(endings), "label": label}:
            parts = [begun, *_right(endings, label)]
        case {"question": str(asked), "choices": list(choices), "answer": answer}:
            parts = [_PROMPT.sub("", asked, count=1), *_right(choices, answer)]
        case _:
            parts = list(_strings(record))
    return "\n".join(parts)


def _right(candidates: Sequence[Any], which: Any) -> list[str]:
    """The right one's strings; those of all where `which` (a number, maybe as digits) names none."""
    digits = isinstance(which, str) and which.isascii() and which.isdecimal() and len(which) < 10
    number = int(which) if digits or (isinstance(which, int) and not isinstance(which, bool)) else -1
    return list(_strings(candidates[number] if 0 <= number < len(candidates) else candidates))


def _strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value, in order, without the keys of objects."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            waiting += reversed(list(value.values()))
        elif isinstance(value, list):
            waiting += reversed(value)


def _elements(path: Path) -> list[Any]:
    with unpacking(path) as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise DataError(f"more than {MOST_BYTES >> 20} MiB of JSON", str(path), "write it as .jsonl")
    try:
        found = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is not JSON ({error})", str(path), "one list of records") from error
    lists = [value for value in found.values() if isinstance(value, list)] if isinstance(found, dict) else []
    if lists:
        found = max(lists, key=len)
    return found if isinstance(found, list) else [found]


def _paragraphs(path: Path) -> list[str]:
    text = "".join(piece.text for piece in read_text(path, path.name, Decoding())).strip()
    parts = _BLANK_LINE.split(text)
    return parts if len(parts) > 1 else text.split("\n")
