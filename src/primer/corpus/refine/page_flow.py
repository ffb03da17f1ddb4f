"""Documents flowing through the stages: a river that gets thinner, and what each stage turns aside.

One geometry, drawn twice: from left to right for wide windows, from top to bottom for narrow ones (the style sheet
shows one of them). Widths are proportional; what is there at all is at least a hair's breadth wide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from primer.corpus.refine.page_text import Fields, clean, clipped, share

Write = Callable[[float | None], str]

ASIDE = 30
"""How far what is dropped moves away from what goes on."""
HAIR = 1.0
GRADIENTS = (
    '<svg class="gradients" width="0" height="0" aria-hidden="true"><defs>'
    '<linearGradient id="fall-wide"><stop class="from" offset="0"/><stop class="to" offset=".5"/>'
    '<stop class="away" offset="1"/></linearGradient>'
    '<linearGradient id="fall-tall" x2="0" y2="1"><stop class="from" offset="0"/><stop class="to" offset=".5"/>'
    '<stop class="away" offset="1"/></linearGradient></defs></svg>'
)
"""Once on the page, for all figures."""


@dataclass(frozen=True)
class Gate:
    """One stage: what comes, what it drops."""

    title: str
    comes: float
    dropped: float


@dataclass(frozen=True)
class Flow:
    """What is counted (documents, bytes …), how it is written, and the gates on its way."""

    noun: str
    write: Write
    gates: tuple[Gate, ...]
    kept: float

    @property
    def begins(self) -> float:
        return self.gates[0].comes if self.gates else 0


@dataclass(frozen=True)
class Frame:
    """Where a point lies that is so far along the river and so far across it."""

    wide: bool
    start: float
    edge: float
    step: float
    breadth: float
    """Of the whole river at its beginning."""

    def at(self, along: float, across: float) -> str:
        along, across = self.start + along, self.edge + across
        x, y = (along, across) if self.wide else (across, along)
        return f"{x:.1f} {y:.1f}"


def flow_of(stages: Sequence[Fields], key: str, noun: str, write: Write) -> Flow | None:
    """The flow of one quantity through the stages that are on; None where it is not known, or nothing comes."""
    on = [stage for stage in stages if stage.get("on", True)]
    numbers = [(stage["in"].get(key), stage["dropped"].get(key), stage["out"].get(key)) for stage in on]
    if not on or not numbers[0][0] or any(value is None for each in numbers for value in each):
        return None
    gates = (
        Gate(clipped(stage["title"], 60), comes, dropped)
        for stage, (comes, dropped, _) in zip(on, numbers, strict=True)
    )
    return Flow(noun, write, tuple(gates), numbers[-1][2])


def figures(flow: Flow) -> str:
    """Both drawings."""
    return wide(flow) + tall(flow)


def wide(flow: Flow) -> str:
    """From left to right: names and numbers under what is dropped."""
    width, end = 1120, 140
    step = (width - end - 16) / len(flow.gates)
    frame = Frame(True, 8, 42, step, 236)
    height = frame.edge + frame.breadth + ASIDE + 78
    texts = [f'<text class="strong" x="8" y="15">{_all(flow)} at the start</text>']
    for index, gate in enumerate(flow.gates):
        x = frame.start + index * step
        if index:
            texts.append(
                f'<text class="muted" x="{x + 5:.1f}" y="{frame.edge - 8}">{flow.write(gate.comes)}</text>'
            )
        y = frame.edge + _thick(flow, frame, gate.comes) + (ASIDE if gate.dropped else 0) + 18
        texts.append(_lines(x + 5, y, _name(gate.title, step), *_aside(flow, gate)))
    x = frame.start + len(flow.gates) * step + 16
    y = frame.edge + max(_thick(flow, frame, flow.kept) / 2 - 8, 4)
    texts.append(_goal(flow, x, y))
    return _svg(flow, frame, "flow-wide", f"0 0 {width} {height:.0f}", texts)


def tall(flow: Flow) -> str:
    """From top to bottom: names and numbers beside what is dropped."""
    width, step = 344, 68
    frame = Frame(False, 30, 4, step, 150)
    height = frame.start + step * len(flow.gates) + 58
    texts = [f'<text class="strong" x="4" y="15">{_all(flow)} at the start</text>']
    for index, gate in enumerate(flow.gates):
        x = frame.edge + _thick(flow, frame, gate.comes) + (ASIDE if gate.dropped else 0) + 10
        y = frame.start + index * step + 0.5 * step
        name = [clipped(gate.title, max(int((width - x) / 7.6), 8))]
        below, style = _aside(flow, gate)
        texts.append(_lines(x, y, name, [" · ".join(below)], style))
    y = frame.start + step * len(flow.gates) + 26
    texts.append(_goal(flow, frame.edge, y))
    return _svg(flow, frame, "flow-tall", f"0 0 {width} {height:.0f}", texts)


def _svg(flow: Flow, frame: Frame, kind: str, box: str, texts: list[str]) -> str:
    ribbons = "".join(_ribbon(flow, frame, index) for index in range(len(flow.gates)))
    title = f"The way of {_all(flow)} through the stages"
    return (
        f'<svg class="flow {kind}" viewBox="{box}" role="img"><title>{clean(title)}</title>'
        f'<desc>{clean(_described(flow))}</desc>{ribbons}<path class="river" d="{_river(flow, frame)}"/>'
        f'<path class="gate" d="{_gates(flow, frame)}"/>{"".join(texts)}</svg>'
    )


def _all(flow: Flow) -> str:
    return f"{flow.write(flow.begins)} {flow.noun.removesuffix('s') if flow.begins == 1 else flow.noun}"


def _described(flow: Flow) -> str:
    """The figure in words."""
    stages = "; ".join(
        f"{gate.title}: {flow.write(gate.dropped)} of {flow.write(gate.comes)} dropped" for gate in flow.gates
    )
    return f"{stages}. Kept: {flow.write(flow.kept)}, {share(flow.kept, flow.begins)}."


def _thick(flow: Flow, frame: Frame, amount: float) -> float:
    """How broad the river is with this amount in it."""
    return max(frame.breadth * amount / flow.begins, HAIR) if amount > 0 else 0.0


def _river(flow: Flow, frame: Frame) -> str:
    """What goes on: straight on one side, on the other a step back at each gate."""
    end = len(flow.gates) * frame.step
    path = [f"M{frame.at(0, 0)}"]
    after = [*(gate.comes for gate in flow.gates[1:]), flow.kept]
    for index, (gate, then) in enumerate(zip(flow.gates, after, strict=True)):
        here = index * frame.step
        start, goal = _thick(flow, frame, gate.comes - gate.dropped), _thick(flow, frame, then)
        path.append(f"L{frame.at(here, start)}")
        middle = here + frame.step / 2
        path.append(
            f"C{frame.at(middle, start)} {frame.at(middle, goal)} {frame.at(here + frame.step, goal)}"
        )
    return "".join(path) + f"L{frame.at(end, 0)}z"


def _ribbon(flow: Flow, frame: Frame, index: int) -> str:
    """What a stage drops: it leaves the river at its outer side, and fades."""
    gate = flow.gates[index]
    if gate.dropped <= 0:
        return ""
    here, there = index * frame.step, (index + 0.8) * frame.step
    middle = (here + there) / 2
    outer = _thick(flow, frame, gate.comes)
    inner = min(_thick(flow, frame, gate.comes - gate.dropped), outer - HAIR)
    path = (
        f"M{frame.at(here, inner)}C{frame.at(middle, inner)} {frame.at(middle, inner + ASIDE)} "
        f"{frame.at(there, inner + ASIDE)}L{frame.at(there, outer + ASIDE)}"
        f"C{frame.at(middle, outer + ASIDE)} {frame.at(middle, outer)} {frame.at(here, outer)}z"
    )
    return f'<path class="fall-{"wide" if frame.wide else "tall"}" d="{path}"/>'


def _gates(flow: Flow, frame: Frame) -> str:
    """A fine line across the river at each stage but the first."""
    return "".join(
        f"M{frame.at(index * frame.step, -6)}L{frame.at(index * frame.step, _thick(flow, frame, gate.comes))}"
        for index, gate in enumerate(flow.gates)
        if index
    )


def _name(title: str, room: float) -> list[str]:
    """A stage's name on at most two lines of a column."""
    letters = max(int(room / 7.6), 5)
    lines = wrap(clipped(title, 2 * letters), letters) or [""]
    return [*lines[:1], *(clipped(" ".join(lines[1:]), letters) for _ in lines[1:2])]


def _aside(flow: Flow, gate: Gate) -> tuple[list[str], str]:
    """What a stage drops, in words, and the style of these."""
    if not gate.dropped:
        return ["nothing"], "muted"
    return [f"−{flow.write(gate.dropped)}", share(gate.dropped, gate.comes)], "gone"


def _lines(x: float, y: float, strong: list[str], below: list[str], style: str = "gone") -> str:
    """Lines of text under one another: a name, then numbers in this style."""
    lines = [*((line, "strong") for line in strong), *((line, style) for line in below)]
    return "".join(
        f'<text class="{style}" x="{x:.1f}" y="{y + 16 * number:.1f}">{clean(line)}</text>'
        for number, (line, style) in enumerate(lines)
    )


def _goal(flow: Flow, x: float, y: float) -> str:
    """What is kept, larger."""
    if not flow.kept:
        return f'<text class="goal" x="{x:.1f}" y="{y:.1f}">nothing kept</text>'
    return (
        f'<text class="goal" x="{x:.1f}" y="{y:.1f}">{clean(flow.write(flow.kept))}</text>'
        f'<text class="strong" x="{x:.1f}" y="{y + 19:.1f}">kept, {share(flow.kept, flow.begins)}</text>'
    )
