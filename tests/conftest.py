"""What all tests share: one thread, a cache of their own, and the way to real data where it is."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels are proven here too, a statement at a time
signal.signal(signal.SIGINT, signal.default_int_handler)  # `pytest &` is started with Ctrl-C ignored
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and `nohup pytest` with a closed terminal


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="session")
def measured_once() -> Iterator[None]:
    """How fast this machine multiplies is measured once, and not anew by every training that a reporter follows."""
    from primer import device  # not above: shapes are checked in what is imported after this file
    from primer.recipes import plan

    measure, genuine = plan.measure, device.matmul_rate
    known: dict[str, float] = {}

    def once(config: Any, rates: dict[str, float]) -> tuple[str, str, float]:
        if device.matmul_rate is not genuine:  # a test says itself what is measured
            return measure(config, rates)
        found = measure(config, known)
        rates |= known
        return found

    plan.measure = once
    yield
    plan.measure = measure


@pytest.fixture
def real_data() -> Path:
    """The folder of real data; the test is skipped where PRIMER_DATA does not name it."""
    if "PRIMER_DATA" not in os.environ:
        pytest.skip("PRIMER_DATA does not name a folder of real data")
    return Path(os.environ["PRIMER_DATA"])


@pytest.fixture
def lecture_script() -> Path:
    """The lecture's script; the test is skipped where PRIMER_REFERENCE does not lead to it."""
    script = Path(os.environ.get("PRIMER_REFERENCE", "")) / "lecture_script.py"
    if not script.is_file():
        pytest.skip("PRIMER_REFERENCE does not lead to the lecture's script")
    return script


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A small text with some structure: the multiplication table in words."""
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    lines = [f"{words[a]} times {words[b]} is {a * b}." for a in range(11) for b in range(11)]
    file = tmp_path / "table.txt"
    file.write_text("\n".join(lines * 3) + "\n", encoding="utf-8")
    return file
