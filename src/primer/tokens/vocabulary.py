"""A list of merges as a vocabulary: the bytes of every token, and the proof that every token can occur."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from primer.errors import DataError
from primer.tokens.pairs import Pair

LONGEST = 1 << 18
"""Bytes of a token at most: as many as a block of text can have (four a character)."""

LARGEST = 1 << 28
"""Bytes of all tokens together at most: a short list of merges could double a token again and again."""

_IN_ORDER = "a list of merges in the order in which they were learned"


def check_bytes(order: bytes) -> None:
    """Raise DataError unless `order` holds every byte once."""
    if sorted(order) != list(range(256)):
        raise DataError(
            "the first 256 tokens must be the 256 bytes, each of them once", hint="bytes(range(256))"
        )


def token_bytes(order: bytes, merges: Sequence[Pair]) -> list[bytes]:
    """The bytes of each id: of the 256 single bytes in their order, then of each merge.

    Raises DataError for a merge of ids that are not there yet, for two tokens of the same bytes (an encoder could
    not tell which to use), and where they are too long.
    """
    tokens = [bytes([byte]) for byte in order]
    total = 0
    for new, (left, right) in enumerate(merges, start=len(tokens)):
        if not (0 <= left < new and 0 <= right < new):
            raise DataError(
                f"merge {new - 256} makes the token {new} of {left} and {right}: not both are there yet",
                hint=_IN_ORDER,
            )
        total += len(tokens[left]) + len(tokens[right])
        if len(tokens[left]) + len(tokens[right]) > LONGEST or total > LARGEST:
            raise DataError(f"merge {new - 256} makes tokens too large: {total} bytes in all", hint=_IN_ORDER)
        tokens.append(tokens[left] + tokens[right])
    if len(set(tokens)) < len(tokens):
        known: dict[bytes, int] = {}
        for new, token in enumerate(tokens):
            if (old := known.setdefault(token, new)) != new:
                raise DataError(f"the tokens {old} and {new} are the same bytes, {token!r}", hint=_IN_ORDER)
    return tokens


def check_reachable(merges: Sequence[Pair], ranks: Mapping[Pair, int]) -> None:
    """Raise DataError for a token that encoding its own bytes does not give: no text could ever hold it.

    With every token reachable, three ways to encode are one: merging pairs in the order of the list (Sennrich), merging
    neighbours whose joined bytes are a token, the smallest id first (tiktoken), and taking a chunk that is a token as
    such. A trained vocabulary is reachable; a list that was put together by hand need not be.

    ranks: merge → the id that it makes.
    """
    for new, (left, right) in enumerate(merges, start=256):
        if not _stays_apart(left, right, new, merges, ranks):
            raise DataError(
                f"token {new} can never occur: other merges come first in its bytes",
                hint=_IN_ORDER,
            )


def _stays_apart(
    left: int, right: int, limit: int, merges: Sequence[Pair], ranks: Mapping[Pair, int]
) -> bool:
    """Whether no merge across the border of two tokens comes before both are made.

    While the two are being made, the neighbours at the border are the last part of the left one and the first part of
    the right one. Going back in time, whichever of the two was made later is taken apart. A merge of the two parts that
    stood there at some time would have happened if its id is smaller than that of the next merge on either side.
    (The same walk is in the crate `bpe` of github/rust-gems.)
    """
    while True:
        if ranks.get((left, right), limit) < limit:
            return False
        if left > right and left >= 256:  # the left one was made later
            limit, left = left, merges[left - 256][1]
        elif (
            right >= 256
        ):  # of equal ones it was the right one; a merge at the border would have come before it
            limit, right = right + 1, merges[right - 256][0]
        else:
            return True


def pairs_of(tokens: Sequence[bytes]) -> list[Pair]:
    """The merges behind a vocabulary of which only the bytes are known (rustbpe's, tiktoken's), in order of their ids.

    Of the ways to cut a token into two earlier ones, the last merge is the one whose border no other merge crosses.
    """
    ids = {token: place for place, token in enumerate(tokens)}
    merges: list[Pair] = []
    ranks: dict[Pair, int] = {}
    for new in range(256, len(tokens)):
        token = tokens[new]
        halves = ((ids.get(token[:cut], new), ids.get(token[cut:], new)) for cut in range(1, len(token)))
        pair = next(
            (
                (left, right)
                for left, right in halves
                if left < new and right < new and _stays_apart(left, right, new, merges, ranks)
            ),
            None,
        )
        if pair is None:
            raise DataError(f"token {new}, {token!r}, is no merge of two earlier ones", hint=_IN_ORDER)
        merges.append(pair)
        ranks[pair] = new
    return merges
