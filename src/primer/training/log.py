"""metrics.jsonl and samples.jsonl: one JSON object a line, appended as training goes."""

import importlib
import importlib.util
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from primer.assets import write_atomically
from primer.errors import SurroundingsError, missing_extra


@runtime_checkable
class Tracker(Protocol):
    """What TensorBoard, W&B and trackio have in common."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """An append-only file of JSON objects that survives being cut in the middle of a line."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row and hand it to the system at once."""
        with open(self.file, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(_finite(row), ensure_ascii=False) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows; a last line that was cut short by a kill is not one."""
        if not self.file.exists():
            return []
        found = []
        for line in self.file.read_text(encoding="utf-8", errors="replace").split("\n"):  # not at U+2028
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                found.append(row)
        return found

    def trim(self, last_step: int, last_score: int | None = None) -> None:
        """Forget the rows after `last_step`, and scores after `last_score`: of a future that did not happen."""
        scores = last_step if last_score is None else last_score
        if self.file.exists():
            kept = [row for row in self.rows() if row["step"] <= (scores if "val_loss" in row else last_step)]
            write_atomically(self.file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: such a number is written as its name."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


class TensorBoardTracker:
    """Writes event files into the run's directory."""

    def __init__(self, directory: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise missing_extra("tensorboard", "track") from None
        self.writer = SummaryWriter(str(directory / "tensorboard"))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class ModuleTracker:
    """W&B and trackio: the same three functions under two names."""

    def __init__(self, module: str, directory: Path) -> None:
        try:
            self.module = importlib.import_module(module)
        except ImportError:
            raise not_installed(module) from None
        self.module.init(project="primer", name=directory.name)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.module.log(dict(values), step=step)

    def close(self) -> None:
        self.module.finish()


def check_installed(names: Iterable[str]) -> None:
    """SurroundingsError for a tracker that is not there, before anything was made for it."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise missing_extra("tensorboard", "track") if name == "tensorboard" else not_installed(name)


def not_installed(tracker: str) -> SurroundingsError:
    """W&B and trackio are in no extra: whoever wants them has an account or a server."""
    return SurroundingsError(f"{tracker} is not installed", hint=f"python -m pip install {tracker}")


def open_trackers(names: Iterable[str], directory: Path) -> list[Tracker]:
    """The trackers that a config asks for; a missing one is an error that says how to install it."""
    return [
        TensorBoardTracker(directory) if name == "tensorboard" else ModuleTracker(name, directory)
        for name in names
    ]
