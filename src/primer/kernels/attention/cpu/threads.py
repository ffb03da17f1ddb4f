"""Work that Python's threads share, each with its part of the threads that torch computes with."""

from collections.abc import Callable
from functools import lru_cache
from threading import Thread
from typing import TypeVar

import torch

Item = TypeVar("Item")
Place = TypeVar("Place")


def workers(items: int) -> int:
    """How many threads may share so many items."""
    return max(1, min(torch.get_num_threads(), items)) if can_be_set() else 1


@lru_cache
def can_be_set() -> bool:
    """Whether each thread may choose how many threads torch uses for it: so it is with OpenMP."""
    return "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()


def share(work: Callable[[Item, Place], None], items: list[Item], places: list[Place]) -> None:
    """Do `work` on every item, at each place by another thread; the first place is the caller's.

    Threads of torch's own meet after every operation, to wait for the slowest of them, and stand still while one of
    them does what has no parallel form. Here they meet when all is done, or when something failed in one of them.
    """
    if len(places) == 1:
        for item in items:
            work(item, places[0])
        return
    todo, failed = iter(items), list[BaseException]()
    threads, inferring = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def take_turns(place: Place) -> None:
        try:
            torch.set_num_threads(max(1, threads // len(places)))  # each thread has a number of its own
            with torch.inference_mode(inferring), torch.no_grad():
                for item in todo:
                    if failed:
                        return
                    work(item, place)
        except BaseException as error:  # also Ctrl-C
            failed.append(error)

    others: list[Thread] = []
    try:
        for place in places[1:]:
            others.append(Thread(target=take_turns, args=(place,)))
            others[-1].start()
        take_turns(places[0])
        for other in others:
            other.join()
    except BaseException as error:  # while one was started or waited for
        failed.append(error)
        for other in others:
            if other.ident is not None:
                other.join()
    finally:
        torch.set_num_threads(threads)
    if failed:
        raise next((error for error in failed if isinstance(error, KeyboardInterrupt)), failed[0])
