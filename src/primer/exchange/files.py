"""Small files of other programs, read with care: a DataError names what is no text, no JSON, or too large."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from primer.assets import reading
from primer.errors import DataError

LARGEST = 1 << 28
"""Bytes of a file that are read at most."""


def read_text(path: Path) -> str:
    """A whole file of UTF-8."""
    with reading(path) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise DataError(f"this file is larger than {LARGEST >> 20} MiB", str(path), "another file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"byte {error.start} is not UTF-8", str(path), "another file") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        fields = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is no JSON: {error}", str(path), "another copy of this file") from error
    if not isinstance(fields, dict):
        raise DataError("this JSON is no object", str(path), "another copy of this file")
    return fields
