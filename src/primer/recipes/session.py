"""One training session of a run: evaluates, samples, reports and saves for the loop, and listens for signals."""

import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, TypeVar

import torch

from primer.errors import DataError
from primer.recipes.config import AnyConfig
from primer.recipes.directory import RunDirectory
from primer.recipes.report import Reporter, duration
from primer.tokens.tokenizer import Tokenizer
from primer.training import checkpoint
from primer.training.log import Tracker, open_trackers
from primer.training.loop import Trainer
from primer.training.sharding import gathered

T = TypeVar("T")

STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Ctrl-C, a polite kill, a terminal that was closed: finish the step (or give it up), save, end.

Windows has no SIGHUP."""


LONG = 10.0
"""Seconds that someone who asked for an end is kept waiting for the rest of a step; a longer one is given up."""


class Data(Protocol):
    """A text as it is trained on: shards of one, or pairs of sentences."""

    @property
    def path(self) -> Path: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def source(self) -> dict[str, str]: ...
    @property
    def fingerprint(self) -> str: ...


class BrokenOff(Exception):
    """Someone asked for an end while the model was being scored."""


class Session(ABC):
    """The loop's hands (`training.loop.Hands`) on one run directory; how a model is scored and shown is its kind's.

    Only the first of several processes writes; all of them evaluate. While the session is entered, the first
    signal of `STOPPING` asks for an end after the present step, or within one that takes long; the second ends at once.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: AnyConfig,
        trainer: Trainer,
        data: Data,
        reporter: Reporter,
        facts: Mapping[str, Any],
        saved: str | None = None,
    ) -> None:
        self.run, self.config, self.trainer, self.data = run, config, trainer, data
        self.reporter = reporter
        self.facts = facts
        self.trackers: list[Tracker] = []
        self.asked_by: int | None = None
        self.saved = saved
        """The newest checkpoint that is known to be whole."""
        self._before: dict[int, Any] = {}
        self._scoring = False
        self._step_began = 0.0
        self._left = 0.0
        """Seconds that the present step will still take when it is next asked about, as far as its beginning tells."""

    def __enter__(self) -> "Session":
        if self.trainer.world.is_first:
            self.trackers = open_trackers(self.config.train.trackers, self.run.path)
        for number in STOPPING:
            if signal.getsignal(number) in (signal.SIG_IGN, None):  # `nohup primer train &`: it is not for us
                continue
            try:
                self._before[number] = signal.signal(number, self._on_signal)
            except ValueError:  # not the main thread: signals are someone else's business
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for tracker in self.trackers:
            tracker.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked_by is not None:
            raise KeyboardInterrupt(number)
        self.asked_by = number
        step = "leaving this evaluation for later" if self._scoring and self._alone else "finishing this step"
        if self._left > LONG:
            left = duration(self._left)
            step = f"giving up this step ({left} left)" if self._alone else f"{step} ({left})"
        with suppress(RuntimeError):  # it came while the reporter was writing: a stream is not entered twice
            self.reporter.on_message(f"{step} and saving; once more to leave at once, unsaved")

    @property
    def _alone(self) -> bool:
        """Several processes go on to where all of them meet: each would have to leave at the same place."""
        return self.trainer.world.size == 1

    @property
    def _asked_alone(self) -> bool:
        return self.asked_by is not None and self._alone

    def part(self, done: int, total: int) -> bool:
        """Tell how far a step is; False where an end was asked for that it would keep waiting for long."""
        now = time.monotonic()
        if not done:
            self._step_began = now
            return not self._asked_alone  # what has not begun is no loss
        left = (now - self._step_began) / done * (total - done)
        self._left = left if done + 1 < total else 0.0  # after the last one nobody is asked any more
        self.reporter.on_part("this step", done, total)
        return not (self._asked_alone and left > LONG)

    def stopping(self) -> bool:
        """Whether a signal came to any of the processes."""
        self._left = 0.0
        asked = torch.tensor(float(self.asked_by is not None), device=self.trainer.precision.device)
        return bool(self.trainer.world.total(asked) > 0)

    @property
    def apart(self) -> int:
        """Checkpoints at every so-manieth step are kept as well, as many as of the newest."""
        return 1

    @abstractmethod
    def scores(self, step: int) -> dict[str, float]:
        """Score the (averaged) model on the validation split. Raises `BrokenOff` when a signal comes."""

    @abstractmethod
    def written(self, step: int) -> str | None:
        """What the model makes of its task now, to be read; None where there is nothing to show, or another shows it.

        Called in every process, since a sharded model is read by all together. Draws nothing from the generators of
        training.
        """

    def unless_asked(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, until a signal comes."""
        for batch in batches:
            if self._asked_alone:
                raise BrokenOff
            yield batch

    def evaluate(self, step: int) -> dict[str, Any] | None:
        """Score, and keep the score as a row; None where a signal came meanwhile."""
        self._scoring = True
        try:
            result = self.scores(step)
        except BrokenOff:
            return None
        finally:
            self._scoring = False
        progress = self.trainer.progress
        row: dict[str, Any] = {"step": step, "tokens": progress.tokens, "seconds": progress.seconds, **result}
        self._keep(row)
        self.reporter.on_evaluate(row)
        return row

    def sample(self, step: int) -> None:
        """Show what the model makes of its task."""
        try:
            with self.trainer.averaged():
                text = self.written(step)
        except DataError as error:  # logits that are not finite: whether to go on is for the loop to say
            self.reporter.on_message(f"no sample after step {step}: {error.cause}")
            return
        if text is not None:
            self.run.samples.append({"step": step, "text": text})
            self.reporter.on_sample(step, text)

    def record(self, row: dict[str, Any]) -> None:
        """Keep the row of a step."""
        row = dict(row)
        row["lr"] = self.config.optim.lr * row.pop("lr_factor")
        row["tokens_per_second"] = row.pop("targets") / max(row.pop("took"), 1e-9)
        if not row.pop("applied"):
            row["event"] = "not finite: step not applied"
        self._keep(row)
        self.reporter.on_step(row)

    def save(self, step: int, *, best: bool) -> None:
        """Write a checkpoint; point `best` at it where it is; remove those that the config does not keep."""
        trainer = self.trainer
        first = trainer.world.is_first
        state = trainer.state()  # every process takes part, here and in putting together what is sharded
        weights = gathered(checkpoint.weights_of(trainer.model), keep=first)
        moments = gathered(trainer.optimizer.state_tensors(), keep=first)
        mean = gathered(trainer.average.tensors(), keep=first) if trainer.average else {}
        if not first:
            return
        # What one samples is the mean; training goes on from the weights.
        model = {**weights, **mean}
        optim = {f"optim.{name}": tensor for name, tensor in moments.items()}
        optim |= {f"weights.{name}": weights[name] for name in mean}
        path = checkpoint.save(
            self.run.checkpoints, step, model=model, optim=optim, state={**state, **self.facts, "step": step}
        )
        if best:
            checkpoint.point(self.run.checkpoints, "best", step)
        checkpoint.purge(self.run.checkpoints, self.config.train.keep, self.apart)
        self.saved = path.name
        self.reporter.on_save(str(path))

    def _keep(self, row: dict[str, Any]) -> None:
        if not self.trainer.world.is_first:
            return
        self.run.metrics.append(row)
        numbers = {
            name: value for name, value in row.items() if isinstance(value, float) and math.isfinite(value)
        }
        for tracker in self.trackers:
            tracker.log(numbers, row["step"])
