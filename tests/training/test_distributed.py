"""What several processes need of each other, as far as one process can show it."""

import threading
import time
from datetime import timedelta

import torch.distributed as dist

from primer.training.distributed import _wait_for


def test_the_others_wait_as_long_as_the_first_one_needs() -> None:
    """Longer than the store itself is willing to wait, several times over."""
    store = dist.HashStore()  # type: ignore[attr-defined]
    first = threading.Thread(target=lambda: (time.sleep(0.5), store.set("ahead", "passed")))
    first.start()
    started = time.monotonic()
    _wait_for(store, "ahead", timedelta(milliseconds=50))
    assert time.monotonic() - started >= 0.4
    first.join()
