"""The run directory: everything that one training run made, in files that a person can read.

runs/2026-11-22-shakespeare-3fa9c1/
    config.toml      every choice, resolved; fed back, it reproduces the run
    run.json         when, where, with what: command, versions, hashes, hardware
    metrics.jsonl    one line a step, one line an evaluation
    samples.jsonl    what the model wrote on the way
    tokenizer.json   text ↔ ids
    checkpoints/     step_NNNNNN/, and the pointers `latest` and `best`
"""

import json
import os
import secrets
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from primer import config as configs
from primer.assets import write_atomically
from primer.errors import DataError, PrimerError, SurroundingsError, UsageError
from primer.models.config import PRESETS
from primer.recipes.config import AnyConfig, config_class
from primer.training import checkpoint
from primer.training.log import JsonLines

RUNS = "another run: primer runs list"
"""What to try where a run's own files say nothing."""


@dataclass(frozen=True)
class RunDirectory:
    """Names in a run directory, and how each is read and written."""

    path: Path

    @property
    def id(self) -> str:
        """The last part of the name: short, unique, easy to type."""
        return self.path.name.rsplit("-", 1)[-1]

    @property
    def handle(self) -> str:
        """What to call it on the command line: its id, or its path where runs are not usually looked for."""
        return self.id if self.path.parent == Path("runs") else shlex.quote(str(self.path))

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> JsonLines:
        """One row a step, one row an evaluation."""
        return JsonLines(self.path / "metrics.jsonl")

    @property
    def samples(self) -> JsonLines:
        """What the model wrote on the way."""
        return JsonLines(self.path / "samples.jsonl")

    @property
    def tokenizer_file(self) -> Path:
        """Text ↔ ids, as JSON."""
        return self.path / "tokenizer.json"

    def read_config(self) -> AnyConfig:
        """The resolved choices of this run."""
        file = self.path / "config.toml"
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
            kind = config_class(values.get("kind", "language"))  # runs before there were kinds are of texts
            return configs.from_dict(kind, values, where=str(file))
        except FileNotFoundError:
            raise DataError("this is no run: it has no config.toml", str(self.path), RUNS) from None
        except UsageError as error:  # a key of another version, a value that was changed by hand
            raise DataError(
                f"config.toml is not one of this version: {error.cause}", str(file), error.hint
            ) from None
        except PermissionError:
            raise unreadable(file) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise DataError(f"config.toml cannot be read: {error}", str(file), RUNS) from None

    def write_config(self, config: AnyConfig) -> None:
        """Keep the resolved choices."""
        write_atomically(self.path / "config.toml", configs.to_toml(config))

    def read_facts(self) -> dict[str, Any]:
        """What run.json says."""
        file = self.path / "run.json"
        try:
            facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError("this is no run: it has no run.json", str(self.path), RUNS) from None
        except PermissionError:
            raise unreadable(file) from None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"run.json cannot be read: {error}", str(file), RUNS) from None
        data = facts.get("data") if isinstance(facts, dict) else None
        trained = isinstance(data, dict) and {"path", "fingerprint"} <= data.keys()
        if not trained and not (isinstance(facts, dict) and isinstance(facts.get("imported"), dict)):
            raise DataError("run.json does not say which text the run was trained on", str(file), RUNS)
        return facts

    @property
    def is_imported(self) -> bool:
        """Whether its weights came from another program, so that it has no text and took no steps."""
        return "imported" in self.read_facts()

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Replace run.json."""
        write_atomically(self.path / "run.json", json.dumps(facts, indent=1) + "\n")

    def update_facts(self, **changes: Any) -> None:
        """Change some of run.json."""
        self.write_facts({**self.read_facts(), **changes})


def unreadable(file: Path) -> SurroundingsError:
    """The error for a file of a run that may not be read."""
    return SurroundingsError("no permission to read this", where=str(file), hint=f"chmod u+r '{file}'")


def create(runs_dir: Path, recipe: str) -> RunDirectory:
    """A new, empty run directory that no other run has."""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        if not os.access(runs_dir, os.W_OK):
            raise PermissionError(13, "no permission to write there")
        while True:
            name = f"{datetime.now():%Y-%m-%d}-{recipe}-{secrets.token_hex(3)}"
            try:
                (runs_dir / name).mkdir()
            except FileExistsError:
                continue
            return RunDirectory(runs_dir / name)
    except OSError as error:
        raise SurroundingsError(
            f"cannot make a run directory: {error.strerror}",
            where=str(runs_dir),
            hint="--runs-dir=DIR elsewhere",
        ) from None


def find(run: str | Path, runs_dir: str | Path = "runs") -> RunDirectory:
    """A run by its path, by a prefix of its id or name, or `latest`: the newest that has something to go on from."""
    if not str(run):
        raise DataError("no run has an empty name", where=str(runs_dir), hint="primer runs list")
    path, root = Path(run), Path(runs_dir)
    if (path / "run.json").is_file():
        return RunDirectory(path)
    if (path / "config.toml").is_file():
        raise DataError("this is no run: it has no run.json", str(path), RUNS)
    known = every(root)
    model = str(run) in PRESETS or (path / "config.json").is_file()  # of another program
    if not known:
        hint = f"primer import {run}" if model else "primer train"
        raise DataError("there are no runs yet", where=str(root), hint=hint)
    if str(run) == "latest":
        return next((each for each in reversed(known) if checkpoint.every(each.checkpoints)), known[-1])
    matching = [each for each in known if each.id.startswith(str(run)) or each.path.name.startswith(str(run))]
    if len(matching) == 1:
        return matching[0]
    if matching:
        listed = ", ".join(each.id for each in matching[:4])
        raise DataError(
            f"{run} is the beginning of several runs: {listed}", where=str(root), hint="more letters"
        )
    hint = f"primer import {run}, which makes one of it" if model else "primer runs list"
    raise DataError(f"there is no run called {run}", where=str(root), hint=hint)


def of_launch(launch: Mapping[str, Any], runs_dir: str | Path) -> RunDirectory | None:
    """The run that this launch of torchrun began with the same choices, if it got as far as its first checkpoint."""
    for run in reversed(every(Path(runs_dir))):
        try:
            if run.read_facts().get("launch") == launch and checkpoint.every(run.checkpoints):
                return run
        except PrimerError:
            continue
    return None


def brought_along(run: RunDirectory) -> tuple[str, dict[str, Any]]:
    """What a run that starts from this one's weights must have in common with it: the sizes and kind of its model."""
    config = run.read_config()
    kept = {"model": configs.to_dict(config.model), "data": {"tokenizer": config.data.tokenizer}}
    return f"run {run.id}", kept


def every(runs_dir: Path) -> list[RunDirectory]:
    """All runs in a directory, oldest first."""
    if not runs_dir.is_dir():
        return []
    found = [RunDirectory(path.parent) for path in runs_dir.glob("*/run.json")]
    return sorted(found, key=_started)


def _started(run: RunDirectory) -> str:
    try:
        return str(run.read_facts().get("started", ""))
    except PrimerError:
        return ""
