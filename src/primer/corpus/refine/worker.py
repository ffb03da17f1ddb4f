"""A process that does tasks: `python -m primer.corpus.refine.worker FOLDER`, a line in for each, lines out about it.

It is a process of its own, started as a program, so that whatever a parser does to it (a crash, memory that is never
given back, an endless loop) happens to it alone, and so that it works the same below any engine.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
"""Of Linux' prctl: the signal that a process gets when the thread that started it has ended."""


def end_with_parent() -> None:
    """Whoever gave the tasks is gone, killed: the next run must not find somebody else at work in its folder."""
    parent = os.getppid()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Read tasks from stdin until it ends; what happens goes to the file that stdout was."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def say(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    from primer.corpus.refine.jobs import perform
    from primer.corpus.refine.plan import open_plan
    from primer.errors import PrimerError

    plan = open_plan(Path(sys.argv[1]))
    gc.freeze()  # what is loaded stays, and pages make no cycles: to look for some takes a twentieth of the time
    gc.set_threshold(50_000, 20, 100)
    say(event="ready")
    for line in sys.stdin:
        job, task, *poison = json.loads(line)
        try:
            perform(
                plan,
                job,
                task,
                watch=lambda identity: say(event="at", id=identity),
                progress=lambda pages, size: say(event="progress", pages=pages, bytes=size),
                poison=frozenset(poison),
            )
        except PrimerError as error:
            say(
                event="error",
                kind=type(error).__name__,
                cause=error.cause,
                where=error.where,
                hint=error.hint,
            )
        except Exception as error:  # a mistake of ours: no page is to blame for it
            traceback.print_exc()
            say(
                event="error",
                kind="PrimerError",
                cause=f"{type(error).__name__}: {error}",
                where=task,
                hint=None,
            )
        else:
            say(event="done")


if __name__ == "__main__":
    main()
