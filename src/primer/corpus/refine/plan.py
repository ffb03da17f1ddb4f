"""A recipe and what it is applied to, fixed before anything is done: any process on any machine can go on from it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from primer.assets import sha256_of_lines, write_atomically, writing
from primer.config import from_dict, to_dict, to_toml
from primer.corpus.refine import select
from primer.corpus.refine.inputs import Input, Part, Progress, Unit, find, stretches, units
from primer.corpus.refine.recipe import Recipe
from primer.corpus.refine.store import Store, load, save
from primer.corpus.refine.tools import Tools
from primer.errors import PrimerError

PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    out: Path
    recipe: Recipe
    inputs: tuple[Input, ...]
    units: tuple[Unit, ...]
    kept_keys: Mapping[str, str] | None = None
    """What `keys` were when the plan was made: whoever reads it later need not have what they were made of."""

    @cached_property
    def store(self) -> Store:
        """Where it all lies."""
        return Store(self.out)

    @cached_property
    def tools(self) -> Tools:
        """What its stages work with, in this process."""
        return Tools(self.recipe)

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """Numbers of the units whose documents are compared with each other."""
        found: dict[str, list[int]] = {}
        for number, unit in enumerate(self.units):
            name = unit.group if self.recipe.dedup.group == "folder" else "all"
            found.setdefault(name, []).append(number)
        return found

    @cached_property
    def keys(self) -> dict[str, str]:
        """Of each job, the hash of all that decides what it makes."""
        if self.kept_keys is not None:
            return dict(self.kept_keys)
        recipe = self.recipe
        everything = sha256_of_lines([*(unit.name for unit in self.units), *map(str, self.groups.items())])
        dedup = {name: value for name, value in to_dict(recipe.dedup).items() if name != "group"}
        steps: list[tuple[str, Any]] = [
            ("annotate", self.tools.key),
            ("select", select.settings(recipe)),
            ("sign", dedup),
            ("match", everything),
            ("cluster", ""),
            ("finish", [to_dict(recipe.pii), recipe.decontaminate.action]),
        ]
        keys: dict[str, str] = {}
        before = ""
        for job, what in steps:
            before = keys[job] = sha256_of_lines([before, job, json.dumps(what, sort_keys=True)])
        return keys

    def folder(self, job: str) -> Path:
        """Where the files of a job lie."""
        return self.store.folder(job, self.keys[job])


def make(recipe: Recipe, specs: Sequence[str | Path], out: Path, progress: Progress) -> Plan:
    """Look at what there is to read, and plan. Nothing is written (`keep` does).

    Where an earlier plan is here, files that have not changed since are not hashed again, and the same inputs are not
    cut again: to know where a packed archive can be cut it has to be unpacked.
    """
    before: Plan | None = None
    with suppress(PrimerError):  # there is none, or one that cannot be read: it is made anew
        before = open_plan(out)
    inputs = find(specs, {each.path: each for each in before.inputs} if before else {}, progress)
    if before and [_content(each) for each in before.inputs] == [_content(each) for each in inputs]:
        cut = before.units
    else:
        cut = units(inputs, _telling(inputs, progress))
    plan = Plan(out, recipe, inputs, cut)
    plan.tools.open()
    plan.keys  # noqa: B018  # what a stage lacks (a model, a list, an extra) is said before anything is done
    return plan


def _content(each: Input) -> tuple[str, ...]:
    """All that decides how a file is cut and what the pieces are called."""
    return each.name, each.kind, each.group, str(each.size), each.sha256


def _telling(
    inputs: Sequence[Input], progress: Progress
) -> Callable[[Input, int], list[tuple[int, int | None]]]:
    """`stretches` that tells how far it is."""
    total, done = sum(each.size for each in inputs), 0

    def cut(each: Input, goal: int) -> list[tuple[int, int | None]]:
        nonlocal done
        found = stretches(each, goal)
        done += each.size
        progress("cut", done, total)
        return found

    return cut


def keep(plan: Plan) -> None:
    """Write the plan into the corpus' folder, where every process that works on it looks."""
    fields = {
        "recipe": to_dict(plan.recipe),
        "inputs": [asdict(each) for each in plan.inputs],
        "units": [asdict(each) for each in plan.units],
        "keys": plan.keys,
    }
    save(plan.out / PLAN, fields)
    with writing(plan.out):
        write_atomically(plan.out / "recipe.toml", to_toml(plan.recipe))


def adopt(plan: Plan, other: Plan) -> None:
    """Take over what was measured for another plan of the same inputs, where the recipes measure alike.

    Files are linked, not copied, where the disk can; their receipts come with them.
    """
    theirs, mine = other.folder("annotate"), plan.folder("annotate")
    if theirs.name != mine.name or not theirs.is_dir():
        return
    with writing(mine):
        mine.mkdir(parents=True, exist_ok=True)
        for path in sorted(theirs.iterdir()):  # a table before its receipt
            target = mine / path.name
            if not target.exists():
                try:
                    os.link(path, target)
                except OSError:
                    shutil.copyfile(path, target)


def open_plan(out: Path) -> Plan:
    """The plan that lies in a corpus' folder, or DataError."""
    fields = load(out / PLAN)
    return Plan(
        out,
        from_dict(Recipe, fields["recipe"]),
        tuple(Input(**each) for each in fields["inputs"]),
        tuple(_unit(each) for each in fields["units"]),
        fields.get("keys"),
    )


def _unit(fields: Mapping[str, Any]) -> Unit:
    parts = tuple(Part(**part) for part in fields["parts"])
    return Unit(fields["name"], fields["group"], fields["bytes"], parts)
