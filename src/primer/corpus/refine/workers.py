"""Several processes that do the tasks of a job, and what is done when one of them dies."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from primer import errors
from primer.assets import log
from primer.errors import PrimerError, SurroundingsError, UsageError

CRASHES = {
    number
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")
    if (number := getattr(signal, name, None)) is not None
}
"""Signals that a process gets for what it did itself. Other ends (the system's memory, somebody's kill) must happen
twice at the same page before the page is blamed."""

TASKS_A_PROCESS = 64
"""Then it is replaced: memory that a library has lost is given back."""

SILENCE = 120.0
"""Seconds at one page after which a process is held to hang in a parser, is ended, and the page is left out."""

Progress = Callable[[int, int], None]


@dataclass
class _Worker:
    """One process, and what it is doing."""

    process: subprocess.Popen[bytes]
    ready: bool = False
    task: str | None = None
    at: str | None = None
    """The page that it was last at."""
    since: float = field(default_factory=time.monotonic)
    done: int = 0
    rest: bytes = b""
    hung: bool = False

    @property
    def out(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout


class Workers:
    """`with Workers(folder, 2) as workers: workers.run("annotate", tasks, …)`: each task done once, by whoever is free.

    The processes start with the first tasks and stay for the next job.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        progress: Progress = lambda pages, size: None,
        program: Sequence[str] = (sys.executable, "-m", "primer.corpus.refine.worker"),
    ) -> None:
        if count < 1:
            raise UsageError(
                f"{count} processes cannot do anything", hint="-j 2, or 0: as many as there are cores"
            )
        self.count, self.progress = count, progress
        self._command = [*program, str(folder)]
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._left: deque[str] = deque()
        self._unfinished = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self._end(worker)
        self._selector.close()

    def run(
        self,
        job: str,
        tasks: Sequence[str],
        poison: Callable[[str], list[str]] = lambda task: [],
        blame: Callable[[str, str], None] = lambda task, page: None,
    ) -> None:
        """Do the tasks of a job. Raises the first error that a task ends with.

        poison: ids of pages that a task leaves alone; blame(task, id): a process died at that page.
        """
        self._job, self._poison, self._blame = job, poison, blame
        self._left = deque(tasks)
        self._unfinished = len(tasks)
        self._deaths: Counter[tuple[str, str | None]] = Counter()
        for _ in range(min(self.count, len(tasks)) - len(self._workers)):
            self._start()
        for worker in [each for each in self._workers if each.ready]:
            self._give(worker)
        while self._unfinished:
            for key, _ in self._selector.select(timeout=1.0):
                self._hear(key.data)
            self._end_hanging()

    def _start(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONUTF8": "1"}
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        worker = _Worker(process)
        os.set_blocking(worker.out.fileno(), False)
        self._selector.register(worker.out, selectors.EVENT_READ, worker)
        self._workers.append(worker)

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.out)
        with suppress(OSError):
            worker.process.kill()
        worker.process.wait()
        for stream in (worker.process.stdin, worker.process.stdout):
            if stream:
                with suppress(OSError):
                    stream.close()

    def _hear(self, worker: _Worker) -> None:
        text = worker.out.read()
        if text is None:
            return
        *lines, worker.rest = (worker.rest + text).split(b"\n")
        for line in lines:
            self._answer(worker, json.loads(line))
        if not text and worker in self._workers:
            self._dead(worker)

    def _answer(self, worker: _Worker, said: dict[str, Any]) -> None:
        worker.since = time.monotonic()
        match said["event"]:
            case "at":
                worker.at = said["id"]
            case "progress":
                self.progress(said["pages"], said["bytes"])
            case "error":
                raise _error(said)
            case "ready":
                worker.ready = True
                self._give(worker)
            case "done":
                worker.done += 1
                worker.task = worker.at = None
                self._unfinished -= 1
                self._give(worker)

    def _give(self, worker: _Worker) -> None:
        if not self._left:
            return
        if worker.done >= TASKS_A_PROCESS:
            self._end(worker)
            self._start()
            return
        worker.task = self._left.popleft()
        words = [self._job, worker.task, *self._poison(worker.task)]
        assert worker.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died: its end of the other pipe says so
            worker.process.stdin.write(json.dumps(words).encode() + b"\n")
            worker.process.stdin.flush()

    def _dead(self, worker: _Worker) -> None:
        """Do its task again; at the page at which it died, not that page."""
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(5)  # its own exit code, not that of our killing it
        self._end(worker)
        code = worker.process.returncode
        if worker.task is None and not worker.ready:
            raise PrimerError(
                f"a worker process ended with {code} before it began", hint="the same with --debug"
            )
        if worker.task is None:
            return
        self._deaths[worker.task, worker.at] += 1
        twice = self._deaths[worker.task, worker.at] > 1
        if worker.at is None and twice:
            raise SurroundingsError(
                f"a worker process was killed twice (exit code {code})", worker.task, "fewer of them: -j 1"
            )
        if worker.at is not None and (-code in CRASHES or twice or worker.hung):
            log.warning("a process died (exit code %d) at %s: this page is left out", code, worker.at)
            self._blame(worker.task, worker.at)
        self._left.appendleft(worker.task)
        self._start()

    def _end_hanging(self) -> None:
        for worker in list(self._workers):
            if worker.task and worker.at and time.monotonic() - worker.since > SILENCE:
                log.warning("a process has been at %s for %d s: it is ended", worker.at, SILENCE)
                worker.hung = True
                worker.process.kill()


def _error(said: dict[str, Any]) -> PrimerError:
    """An error of ours that a worker met, here again."""
    kind = getattr(errors, said["kind"], PrimerError)
    return kind(said["cause"], said["where"], said["hint"])
