"""One process a run: the lock is the kernel's, whoever holds it is named, and the dead hold nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from primer.errors import SurroundingsError
from primer.lock import RunLock

HOLD = """
import sys
from pathlib import Path
from primer.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    """Another process that has the lock until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_holder_is_named_and_nothing_waits(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        for _ in range(2):
            with pytest.raises(SurroundingsError) as caught, RunLock(tmp_path):
                pass
            assert caught.value.cause == f"this run is being trained by process {other.pid}"
            assert caught.value.where == str(tmp_path)
        other.communicate()
    with RunLock(tmp_path):
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="knows no SIGKILL")
def test_what_a_dead_process_held_is_free_at_once(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (tmp_path / "lock").read_text() == f"process {other.pid}\n"
    with RunLock(tmp_path):
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()}\n"


def test_an_error_inside_gives_it_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunLock(tmp_path):
        raise ZeroDivisionError
    with RunLock(tmp_path):
        pass


def test_two_runs_have_two_locks(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with RunLock(tmp_path / "a"), RunLock(tmp_path / "b"):
        pass
