"""The third opinion: runs of prose between block tags (jusText, Pomikálek 2011, as trafilatura 2.3 uses it).

A block is good if it is long and has few links; short blocks go with their neighbours. JusText also asks
for stop words, trafilatura for those of all its hundred languages at once: here `_spoken` stands for that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from primer.corpus.crawl.main_text_marks import CLOSE, COMMENT, DROP, EXTRAS, INLINE, LINK, MARKS, words
from primer.corpus.crawl.main_text_stream import pairs, unescape

_BREAKS: Final = words(
    "body blockquote caption center col colgroup dd div dl dt fieldset form legend optgroup option p pre "
    "table td textarea tfoot th thead tr ul li h1 h2 h3 h4 h5 h6"
)
_SPACES = re.compile(r"\s+")
_LOW, _HIGH = 50, 150  # characters
_MOST_LINKS = 0.1


@dataclass
class _Block:
    parts: list[str] = field(default_factory=list)
    linked: int = 0
    text: str = ""
    verdict: str = ""


def _single(match: re.Match[str]) -> str:
    space = match.group()
    return "\n" if "\n" in space or "\r" in space else " "


def prose(stream: list[str]) -> list[str]:
    """The good blocks of a page, in order."""
    blocks = [block for block in _blocks(stream) if block.parts]
    for block in blocks:
        block.text = _SPACES.sub(_single, "".join(block.parts).strip())
        block.verdict = _alone(block)
    _among_neighbours(blocks)
    return [block.text for block in blocks if block.verdict == "good"]


def _blocks(stream: list[str]) -> list[_Block]:
    """The page cut at block tags and at double line breaks."""
    blocks = [_Block()]
    dropping = 0
    linked = after_break = False
    pending: list[str] = []
    for raw, text in pairs(stream):
        kind, tag, flags, empty, _, _, _ = MARKS[raw]
        if dropping:
            dropping += -1 if kind == CLOSE else not empty
            if dropping:
                continue
        elif kind >= DROP or flags & (COMMENT | EXTRAS):
            if not empty:
                dropping = 1
                continue
        elif kind != INLINE and not (kind == CLOSE and MARKS[tag].kind == INLINE):
            text_before = "".join(pending)
            if text_before and not text_before.isspace():
                said = _SPACES.sub(_single, text_before)
                blocks[-1].parts.append(said)
                blocks[-1].linked += len(said) * linked
                after_break = False
            pending.clear()
            if tag in _BREAKS or (tag == "br" and after_break):
                blocks.append(_Block())
            elif kind != CLOSE:
                after_break = tag == "br"
                if after_break:
                    blocks[-1].parts.append(" ")
            if tag == "a":
                linked = kind == LINK and not empty
        if text:
            pending.append(unescape(text))
    return blocks


def _spoken(text: str) -> float:
    """About the share of stop words."""
    return 1.0 if text else 0.0


def _alone(block: _Block) -> str:
    length = len(block.text)
    if block.linked > _MOST_LINKS * length or "\xa9" in block.text:
        return "bad"
    if length < _LOW:
        return "bad" if block.linked else "short"
    density = _spoken(block.text)
    if density >= 0.25:
        return "good" if length > _HIGH else "neargood"
    return "neargood" if density >= 0.2 else "bad"


def _among_neighbours(blocks: list[_Block]) -> None:
    """Revise the verdicts, as jusText's second pass does."""
    verdicts = [block.verdict for block in blocks]
    before, after = _sides(verdicts)
    near_before, near_after = _sides(verdicts, near=True)
    for index, block in enumerate(blocks):
        if block.verdict == "short":
            good = (before[index] == "good") + (after[index] == "good")
            near = (before[index] == "bad" and near_before[index] == "neargood") or (
                after[index] == "bad" and near_after[index] == "neargood"
            )
            block.verdict = "good" if good == 2 or (good == 1 and near) else "bad"
    last_settled = "bad"
    after = _sides([block.verdict for block in blocks])[1]
    for index, block in enumerate(blocks):
        if block.verdict == "neargood":
            block.verdict = "bad" if last_settled == after[index] == "bad" else "good"
        if block.verdict in ("good", "bad"):
            last_settled = block.verdict


def _sides(verdicts: list[str], *, near: bool = False) -> tuple[list[str], list[str]]:
    """For each place the nearest settled verdict before and after it; `near` takes near-good ones, too."""
    settled = ("good", "bad", "neargood") if near else ("good", "bad")
    sides = []
    for order in (verdicts, verdicts[::-1]):
        side, last = [], "bad"
        for verdict in order:
            side.append(last)
            if verdict in settled:
                last = verdict
        sides.append(side)
    return sides[0], sides[1][::-1]
