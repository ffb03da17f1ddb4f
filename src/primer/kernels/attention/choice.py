"""What `auto` stands for: the first implementation that works here, found by running it once.

Which come first was measured; whether one works is not read from a version number but tried: on a small case of the
same kind, forward and backward, against the reference. The answer is kept for the rest of the process.
"""

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from primer.errors import PrimerError
from primer.kernels import budget
from primer.kernels.budget import Operator


class Kind(NamedTuple):
    """What decides between implementations: the same for every call of a layer."""

    device: str
    dtype: torch.dtype
    width: int
    v_width: int
    group: int
    causal: bool
    window: bool = False
    documents: bool = False
    padding: bool = False
    soft_cap: bool = False
    dropout: bool = False
    trained: bool = False

    @property
    def plain(self) -> bool:
        """Causal or full attention and nothing else: what libraries are fast at."""
        return not (self.window or self.documents or self.padding or self.soft_cap or self.dropout)


def candidates(kind: Kind) -> tuple[str, ...]:
    """On a CUDA device, the fastest first (`benchmarks/attention_gpu.py`, on an H200); the last can always do it."""
    last = "reference" if kind.soft_cap else "library"
    if not kind.plain:
        return ("gpu", last)
    return ("library_cudnn", "gpu", last) if kind.trained else ("gpu", "library_cudnn", last)


def working(kind: Kind, operators: dict[str, Operator]) -> Iterator[str]:
    """The candidates that work; the last is not tried, for what could be done if it failed?"""
    *tried_first, last = candidates(kind)
    yield from (name for name in tried_first if not failure(name, operators[name], kind))
    yield last


@lru_cache
def failure(name: str, operator: Operator, kind: Kind) -> str:
    """Why an implementation cannot compute a small case of this kind within its budget; nothing, if it can."""
    torch_state = torch.random.get_rng_state()  # nobody's numbers change because something was tried
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            wrong = [what for what, error in tried(name, operator, kind).items() if not error.ok]
            return f"{' and '.join(wrong)} would be wrong" if wrong else ""
        except Exception as error:  # whatever it is, it is the reason
            return reason(error, [str(each.message) for each in said])
        finally:
            torch.random.set_rng_state(torch_state)


def tried(name: str, operator: Operator, kind: Kind) -> dict[str, budget.Error]:
    """The errors of a case of 100 positions. Dropout is not judged where the draw is torch's; it must be there."""
    T = 100
    generator = torch.Generator().manual_seed(0)

    def draw(heads: int, width: int) -> Tensor:
        return torch.randn(1, heads, T, width, generator=generator).to(kind.device, kind.dtype)

    q, k, v = draw(kind.group, kind.width), draw(1, kind.width), draw(1, kind.v_width)
    how: dict[str, Any] = {"causal": kind.causal}
    if kind.window:
        how["window"] = 30
    if kind.documents:
        how["document_ids"] = torch.arange(T, device=kind.device)[None] // 40
    if kind.padding:
        how["seen"] = torch.arange(T, device=kind.device)[None] < 80
    if kind.soft_cap:
        how["soft_cap"] = 5.0
    if kind.dropout:
        dropout = {"dropout": 0.5, "dropout_seed": 1}
        operator(q, k, v, **how, **dropout)
        how |= {} if name.startswith("library") else dropout
    d_out = draw(kind.group, kind.v_width) if kind.trained else None
    with torch.enable_grad() if kind.trained else torch.no_grad():
        return budget.errors(operator, q, k, v, d_out, **how)


def reason(error: Exception, said: Sequence[str]) -> str:
    """Why an implementation cannot do what is asked, in one line. said: torch's warnings, which may know more."""
    if isinstance(error, PrimerError):
        return f"{error.cause} ({error.where})" if error.where else error.cause
    text = next(iter(str(error).splitlines()), "").partition(". ")[0] or "no message"
    text = text if isinstance(error, RuntimeError) else f"{type(error).__name__}: {text}"
    if "scaled_dot_product_attention" not in text and "No available kernel" not in text:
        return text
    # torch warns of each of its kernels; those that were not asked for are "disabled", and say nothing of the reason.
    told = dict.fromkeys(line.partition(" (Triggered")[0].strip() for line in said)
    known = [line for line in told if "disabled" not in line and not line.endswith("because:")]
    return "; ".join(known) or "torch has no such kernel for what is asked on this device"
