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
    them does what has no parallel form. Here they meet when all is done.
    """
    if len(places) == 1:
        for item in items:
            work(item, places[0])
        return
    todo, failed, threads = iter(items), list[BaseException](), torch.get_num_threads()

    def take_turns(place: Place) -> None:
        torch.set_num_threads(max(1, threads // len(places)))  # of this thread
        with torch.no_grad():
            for item in todo:
                try:
                    work(item, place)
                except (
                    BaseException
                ) as error:  # also Ctrl-C: it is raised where the others have come to an end
                    failed.append(error)
                if failed:
                    return

    others = [Thread(target=take_turns, args=(place,)) for place in places[1:]]
    for other in others:
        other.start()
    take_turns(places[0])
    for other in others:
        other.join()
    torch.set_num_threads(threads)
    if failed:
        raise failed[0]
