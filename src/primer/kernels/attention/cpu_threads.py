"""Work that is shared by threads of Python's, each with its share of torch's own."""

from collections.abc import Callable, Iterable
from threading import Thread
from typing import TypeVar

import torch

Item = TypeVar("Item")
Place = TypeVar("Place")


def share(work: Callable[[Item, Place], None], items: Iterable[Item], places: list[Place]) -> None:
    """Do `work` on all items, at each of the places by another thread; the caller's is one of them.

    torch's own threads meet after every operation, and wait for the slowest, and for what has one thread only.
    """
    todo, failed = iter(list(items)), list[BaseException]()  # of a list: threads may share its iterator
    threads = torch.get_num_threads()

    def take_turns(place: Place) -> None:
        if len(places) > 1:
            torch.set_num_threads(max(1, threads // len(places)))
        with torch.no_grad():
            for item in todo:
                try:
                    work(item, place)
                except BaseException as error:
                    failed.append(error)
                if failed:
                    return

    others = [Thread(target=take_turns, args=(place,)) for place in places[1:]]
    for other in others:
        other.start()
    take_turns(places[0])
    for other in others:
        other.join()
    if len(places) > 1:
        torch.set_num_threads(threads)
    if failed:
        raise failed[0]
