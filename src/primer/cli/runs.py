"""`primer runs`: list, show, compare and remove what was trained here."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primer.cli.curve import Curve, draw
from primer.cli.flags import Verb, parse, required, show_help
from primer.cli.table import table
from primer.errors import UsageError, nearest

if TYPE_CHECKING:
    from primer.recipes.loaded import Run


@dataclass(frozen=True)
class ListOptions:
    """Of the command."""

    json: bool = False
    """Print a JSON array, one object a run."""
    runs_dir: str = "runs"
    """Where runs are kept."""


@dataclass(frozen=True)
class ShowOptions:
    """Of the command."""

    json: bool = False
    """Print JSON: config and all rows of metrics."""
    plot: str | None = None
    """Draw the curves into this file too: .png or .svg (needs the extra "plots")."""
    runs_dir: str = "runs"
    """Where runs are kept."""


@dataclass(frozen=True)
class RemoveOptions:
    """Of the command."""

    yes: bool = False
    """Do not ask."""
    runs_dir: str = "runs"
    """Where runs are kept."""


ABOUT_RUN = " RUN is a path, the beginning of an id, or latest."
EXAMPLES = (
    "primer runs list",
    "primer runs show latest",
    "primer runs compare 3fa9c1 latest --plot=both.png",
)

LIST = Verb("runs list", "", "List the runs, the newest last.", EXAMPLES, ListOptions, most=0)
SHOW = Verb("runs show", "RUN", "Show a run with its curves." + ABOUT_RUN, EXAMPLES, ShowOptions)
COMPARE = Verb(
    "runs compare",
    "RUN RUN …",
    "Lay the curves of several runs over each other." + ABOUT_RUN,
    EXAMPLES,
    ShowOptions,
    most=99,
)
REMOVE = Verb("runs rm", "RUN …", "Remove runs for good." + ABOUT_RUN, EXAMPLES, RemoveOptions, most=9999)
RUNS = Verb("runs", "list|show|compare|rm", "Look at what was trained here.", EXAMPLES, ListOptions)


def run(argv: Sequence[str]) -> int:
    """Run one of the four verbs below `runs`; without a word, list."""
    verbs: dict[str, Callable[[Sequence[str]], int]] = {
        "list": list_runs,
        "show": show_run,
        "compare": compare_runs,
        "rm": remove_runs,
    }
    if not argv or argv[0].startswith("-"):
        if "-h" in argv or "--help" in argv:
            show_help(RUNS)
            return 0
        return list_runs(argv)
    word, *rest = argv
    if word not in verbs:
        close = nearest(word, list(verbs))
        raise UsageError(f"unknown verb {word!r}", "primer runs", f"primer runs {close or 'list'}")
    return verbs[word](rest)


def list_runs(argv: Sequence[str]) -> int:
    """One line a run."""
    arguments = parse(LIST, argv)
    if arguments.help:
        show_help(LIST)
        return 0

    from primer.recipes.summary import summaries

    found = summaries(arguments.options.runs_dir)
    if arguments.options.json:
        print(json.dumps([asdict(summary) for summary in found], default=str, ensure_ascii=False))
        return 0
    if not found:
        print(f"no runs in {arguments.options.runs_dir} yet; begin with: primer train", file=sys.stderr)
        return 0
    rows = [("id", "recipe or text", "started", "step", "parameters", "loss", "validation", "status")]
    for one in found:
        steps = f"{one.step:,}/{one.steps:,}" if one.steps else "-"
        figures = (f"{one.parameters:,}" if one.parameters else "-", loss(one.train_loss), loss(one.val_loss))
        rows.append(
            (one.id, one.title, str(one.started)[5:16].replace("T", " "), steps, *figures, one.status)
        )
    print(table(rows, right={3, 4, 5, 6}, cut=1))
    return 0


def show_run(argv: Sequence[str]) -> int:
    """A run's facts and curves."""
    arguments = parse(SHOW, argv)
    if arguments.help:
        show_help(SHOW)
        return 0
    which = required(arguments, SHOW, "a run")
    return report([which], arguments.options)


def compare_runs(argv: Sequence[str]) -> int:
    """Several runs, one plot."""
    arguments = parse(COMPARE, argv)
    if arguments.help:
        show_help(COMPARE)
        return 0
    if len(arguments.values) < 2:
        raise UsageError("primer runs compare needs two runs or more", hint=EXAMPLES[2])
    return report(arguments.values, arguments.options)


def report(names: Sequence[str], options: ShowOptions) -> int:
    """Curves, and a line of figures under them for each run."""
    from primer.config import to_dict
    from primer.recipes.run import load

    loaded = [load(name, runs_dir=options.runs_dir) for name in names]
    rows = [one.metrics() for one in loaded]
    curves = all_curves(loaded, rows)
    if options.plot:
        from primer.cli.plots import save

        if not curves:
            raise UsageError(
                "there is nothing to draw yet", str(loaded[0].path), "wait for its first evaluation"
            )
        heading = loaded[0].path.name if len(loaded) == 1 else ""
        print(f"drawn into {save(curves, options.plot, title=heading)}", file=sys.stderr)
    if options.json:
        found = [
            {"path": str(one.path), "config": to_dict(one.config), "metrics": metrics}
            for one, metrics in zip(loaded, rows, strict=True)
        ]
        print(json.dumps(found if len(names) > 1 else found[0], ensure_ascii=False))
        return 0
    picture = draw(
        curves, width=min(100, shutil.get_terminal_size().columns), unicode=unicode(), colour=colour()
    )
    if picture:
        print(picture, end="\n\n")
    lines = [("run", "recipe", "step", "loss", "validation", "best", "tokens/s")]
    print(
        table(
            lines + [figures(one, metrics) for one, metrics in zip(loaded, rows, strict=True)],
            right={2, 3, 4, 5, 6},
            cut=0,
        )
    )
    if different := differences(loaded):
        print(f"\n{table(different, cut=0)}")
    return 0


def all_curves(runs: Sequence[Run], rows: Sequence[Sequence[dict[str, Any]]]) -> list[Curve]:
    """Training and validation of one run; of several the same of each: validation, unless one has too little of it."""
    kinds = {"training": "loss", "validation": "val_loss"}
    points = {
        kind: [
            [(float(row["step"]), row[key]) for row in metrics if is_number(row.get(key))] for metrics in rows
        ]
        for kind, key in kinds.items()
    }
    shown = list(kinds)
    if len(runs) > 1:
        shown = ["validation" if min(map(len, points["validation"])) > 1 else "training"]
    return [
        Curve(f"{one.path.name} {kind}" if len(runs) > 1 else kind, found)
        for number, one in enumerate(runs)
        for kind in shown
        if (found := points[kind][number])
    ]


def differences(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The settings in which runs differ, a line each; nothing where they do not."""
    from primer.config import dotted, to_dict

    settings = [dotted(to_dict(one.config)) for one in runs]
    keys = [key for key in settings[0] if any(each.get(key) != settings[0][key] for each in settings)]
    rows = [(key, *(str(each.get(key)) for each in settings)) for key in keys if key != "about"]
    return [("setting", *(one.directory.id for one in runs)), *rows] if rows else []


def figures(one: Run, rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """A run in one line of a table."""
    losses = [row["loss"] for row in rows if is_number(row.get("loss"))]
    validation = [row["val_loss"] for row in rows if is_number(row.get("val_loss"))]
    speeds = sorted(row["tokens_per_second"] for row in rows if is_number(row.get("tokens_per_second")))
    step = max((row["step"] for row in rows), default=0)
    return (
        one.path.name,
        one.config.recipe,
        "-" if one.directory.is_imported else f"{step:,}/{one.config.train.steps:,}",
        loss(sum(losses[-20:]) / len(losses[-20:]) if losses else None),
        loss(validation[-1] if validation else None),
        loss(min(validation, default=None)),
        f"{speeds[len(speeds) // 2]:,.0f}" if speeds else "-",
    )


def remove_runs(argv: Sequence[str]) -> int:
    """Delete run directories, after a question."""
    arguments = parse(REMOVE, argv)
    if arguments.help:
        show_help(REMOVE)
        return 0
    required(arguments, REMOVE, "a run")

    from primer.lock import RunLock
    from primer.recipes.directory import find

    paths = list(dict.fromkeys(find(name, arguments.options.runs_dir).path for name in arguments.values))
    for path in paths:
        if not arguments.options.yes and not agreed(path):
            print(f"{path} stays", file=sys.stderr)
            continue
        with RunLock(path):  # not under the hands of a training
            shutil.rmtree(path)
        print(path)
    return 0


def agreed(path: Path) -> bool:
    """Ask on the terminal; without one, nothing is removed without --yes."""
    if not sys.stdin.isatty():
        raise UsageError("nobody is here to be asked", str(path), "primer runs rm … --yes")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"remove {path} ({size / 1e6:.1f} MB) for good? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def loss(value: float | None) -> str:
    """Four digits, or a dash."""
    return f"{value:.4f}" if is_number(value) else "-"


def is_number(value: object) -> bool:
    """Whether a row has a finite number there. (metrics.jsonl writes NaN as a word.)"""
    return isinstance(value, (int, float)) and math.isfinite(value)


def unicode() -> bool:
    """Whether stdout can show Braille."""
    return "utf" in (sys.stdout.encoding or "").lower()


def colour() -> bool:
    """Whether stdout is a terminal whose owner likes colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
