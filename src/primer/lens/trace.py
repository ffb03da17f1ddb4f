"""Collect what happens inside a model while it reads, by hook name."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch

import torch
from jaxtyping import Int
from torch import Tensor, nn

from primer.errors import UsageError, nearest
from primer.nn.mode import reading
from primer.nn.probe import Listener, probes


def names(model: nn.Module) -> list[str]:
    """Every place of a model where one can look: `embed`, `layers.0.resid_pre`, `layers.0.q`, …"""
    return list(probes(model))


@contextmanager
def listening(model: nn.Module, listeners: Mapping[str, Listener]) -> Iterator[None]:
    """Attach listeners by hook name; what a listener returns goes on through the model in place of the value.

    One that listens already hears the value first. An unknown name is a `UsageError` that names the nearest one.
    """
    known = probes(model)
    for name in listeners:
        if name not in known:
            close = nearest(name, list(known))
            raise UsageError(f"this model has no place called {name}", hint=close)
    before = {name: known[name].listener for name in listeners}
    try:
        for name, listener in listeners.items():
            known[name].listener = _after(before[name], listener)
        yield
    finally:
        for name, listener_before in before.items():
            known[name].listener = listener_before


def _after(first: Listener | None, second: Listener) -> Listener:
    """Both listeners, one after the other."""
    return second if first is None else lambda value: second(first(value))


def trace(
    model: nn.Module,
    tokens: Int[Tensor, "B T"] | tuple[Int[Tensor, "B S"], Int[Tensor, "B T"]],
    wanted: Iterable[str] = ("*",),
) -> dict[str, Tensor]:
    """Read `tokens` once and return what was seen at each wanted place; `*` matches any part of a name.

    An encoder–decoder reads a source and a target; what its decoder saw while it wrote a translation, it sees again
    when it reads the end token and the translation behind it.

    >>> trace(model, tokens, ["layers.*.pattern"])["layers.3.pattern"].shape   # doctest: +SKIP
    torch.Size([1, 4, 12, 12])
    >>> trace(model, (source, target), ["decoder.*.cross.pattern"])["decoder.0.cross.pattern"].shape  # doctest: +SKIP
    torch.Size([1, 4, 9, 12])
    """
    patterns = list(wanted)
    chosen = [name for name in names(model) if any(fnmatch(name, pattern) for pattern in patterns)]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in chosen):
            close = nearest(pattern, names(model))
            raise UsageError(f"this model has no place called {pattern}", hint=close)
    inputs = tokens if isinstance(tokens, tuple) else (tokens,)
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Listener:
        def listener(value: Tensor) -> Tensor:
            seen[name] = value.detach()
            return value

        return listener

    with reading(model), torch.no_grad(), listening(model, {name: keep(name) for name in chosen}):
        model(*inputs)
    return seen
