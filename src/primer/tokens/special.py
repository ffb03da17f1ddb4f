"""Special tokens: ids that stand for no text, and what is done where a text spells the name of one.

`<|endoftext|>` begins a document; a text that anyone may have written must not be able to. So its thirteen
characters are refused by default, and whoever wants the token, or the characters, says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from primer.errors import DataError, UsageError
from primer.tokens.tokenizer import Special


class SpecialTokenError(DataError):
    """A text spells a special token; `position` counts characters from the start of the text."""

    def __init__(self, token: str, position: int, where: str | None = None) -> None:
        super().__init__(
            f"the text spells the special token {token!r} at position {position}",
            where=where,
            hint='special="text" takes it for ordinary characters, special="allow" for the token',
        )
        self.token = token
        self.position = position


class SpecialTokens:
    """Special tokens by name, and the search for them. Raises DataError for what is no name, or no id of its own.

    first: their ids are the numbers from here on, without a gap.
    """

    def __init__(self, ids: Mapping[str, int], first: int) -> None:
        if sorted(ids.values()) != list(range(first, first + len(ids))):
            raise DataError(
                f"the special tokens' ids must be {first} to {first + len(ids) - 1}, which follow the merges",
                hint="number them in order",
            )
        for name in ids:
            _require_name(name)
        self.ids = MappingProxyType(dict(sorted(ids.items(), key=lambda item: item[1])))
        longest_first = sorted(ids, key=len, reverse=True)  # which counts, of several that begin at one place
        self._names = re.compile("|".join(map(re.escape, longest_first))) if ids else None

    def stretches(self, text: str, special: Special) -> Iterator[tuple[int, int, int | None]]:
        """(start, end, id) of each token that `text` spells, (start, end, None) of each stretch between them.

        "text" sees no tokens, "allow" takes them for what they are, "refuse" raises SpecialTokenError.
        """
        if special not in ("refuse", "allow", "text"):
            raise UsageError(f"unknown way with special tokens {special!r}", hint="refuse, allow or text")
        start = 0
        for match in self._names.finditer(text) if self._names and special != "text" else ():
            if special == "refuse":
                raise SpecialTokenError(match.group(), match.start())
            if start < match.start():
                yield start, match.start(), None
            start = match.end()
            yield match.start(), start, self.ids[match.group()]
        if start < len(text):
            yield start, len(text), None


def _require_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the special token {name!r} is no text: half a surrogate pair", hint=_NAME
        ) from error
    if not name:
        raise DataError("a special token needs a name", hint=_NAME)


_NAME = "a name such as <|name|>"
