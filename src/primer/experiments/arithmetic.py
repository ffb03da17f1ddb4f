"""What a format does to sums, to a softmax, and to matrix products: three lessons without training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from primer.experiments.calculation import Calculation, Key, Picture, Quantity, Values
from primer.experiments.seen import SEEN
from primer.floats.formats import FORMATS

if TYPE_CHECKING:
    from torch import Tensor

TERMS = (100, 1_000, 10_000, 100_000, 1_000_000)
SUMMED = ("fp32", "tf32", "fp16", "bf16", "e5m2", "e4m3")
SPREADS = (1, 3, 10, 30, 100, 300)
SOFTMAXED = ("fp32", "fp16", "bf16", "e5m2")
ROWS, LENGTH = 128, 256
WIDTHS = (32, 128, 512, 2048)
MULTIPLIED = ("tf32", "fp16", "bf16", "e4m3", "e5m2", "mxfp8", "mxfp4", "nvfp4")
SIDE = 256
DIGIT_NOISE = math.sqrt((1 - 1 / 4) / (2 * math.log(2)) / 12)
"""The root of the mean square of the relative error of rounding to the nearest, in units of 2^−M: a number m · 2^e is
off by up to half a step, evenly (h²/12), and of significands as they occur 1/m² has the mean ¾ / (2 ln 2) = 0.54."""


def sums(seed: int) -> Values:
    """A million numbers between 0 and 0.02, and the first 100, 1,000, … of them."""
    import torch

    from primer.floats.sums import WAYS, added
    from primer.floats.tensor import quantize

    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(1, TERMS[-1], generator=generator, dtype=torch.float64) * 0.02
    found: dict[Key, dict[str, float]] = {}
    for method in WAYS:
        for name in SUMMED:
            rounded = quantize(numbers.float(), name).double()
            for n in TERMS:
                wanted = math.fsum(rounded[0, :n].tolist())
                got = float(added(numbers[:, :n], FORMATS[name], method))
                found[method, name, n] = {"error": abs(got - wanted) / wanted}
    return found


def softmaxes(seed: int) -> Values:
    """Rows of normal logits, more and more spread out."""
    import torch

    from primer.floats.softmax import WAYS, softmax

    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(ROWS, LENGTH, generator=generator, dtype=torch.float64)
    found: dict[Key, dict[str, float]] = {}
    for method in WAYS:
        for name in SOFTMAXED:
            for spread in SPREADS:
                wanted = (logits * spread).softmax(dim=-1)
                got = softmax(logits * spread, FORMATS[name], method).double()
                whole = torch.isfinite(got).all(dim=-1)
                off = (got - wanted).abs().sum(dim=-1)[whole]
                found[method, name, spread] = {
                    "broken": float((~whole).double().mean()),
                    "error": float(off.mean()) if len(off) else math.nan,
                }
    return found


def products(seed: int) -> Values:
    """Products of normal matrices, K numbers to a sum, in which only what goes in is short."""
    import torch

    from primer.floats.tensor import quantize

    generator = torch.Generator().manual_seed(seed)
    found: dict[Key, dict[str, float]] = {}
    for K in WIDTHS:
        a, b = (torch.randn(SIDE, K, generator=generator) for _ in range(2))
        wanted = a.double() @ b.double().T
        sizes = a.double().abs() @ b.double().abs().T
        size = float(wanted.norm())
        for name in ("fp32", *MULTIPLIED):
            scaling = "tensor" if name in ("e4m3", "e5m2") else "none"
            short = [x if name == "fp32" else quantize(x, name, scaling=scaling) for x in (a, b)]  # type: ignore[arg-type]
            got = short[0] @ short[1].T
            found[name, K] = {
                "error": float((got.double() - wanted).norm()) / size,
                **predictions(name, K, sizes, size),
            }
    return found


def predictions(name: str, K: int, sizes: Tensor, size: float) -> dict[str, float]:
    """What theory says of the relative error: at most, and as a rule. Of formats with scales in blocks, nothing."""
    form = FORMATS.get(name)
    if form is None:
        return {"predicted": math.nan, "bound": math.nan}
    u, unit = float(form.epsilon) / 2, float(FORMATS["fp32"].epsilon) / 2
    inputs = 0.0 if name == "fp32" else (1 + u) ** 2 - 1
    added = K * unit / (1 - K * unit)  # γ_K: Higham 2002, §3.5
    bound = (inputs + added + inputs * added) * float(sizes.norm()) / size
    rule = 0.0 if name == "fp32" else math.sqrt(2) * DIGIT_NOISE * float(form.epsilon)
    return {"predicted": rule or math.nan, "bound": bound}


ERROR = Quantity("error", "how far the result is from the exact one, as a part of it", logarithmic=True)

SUMS = Calculation(
    name="sums",
    seen=SEEN["sums"],
    question="What is left of a sum of a million small numbers, in each format and by three ways of adding?",
    keys=("method", "format", "terms"),
    quantities=(ERROR,),
    parts=(("naive", "pairwise", "kahan"), SUMMED, TERMS),
    of=sums,
    picture=Picture("terms", "format", "method"),
    seconds=2.0,
)

SOFTMAX = Calculation(
    name="softmax",
    seen=SEEN["softmax"],
    question="Why is the largest logit taken off before a softmax, and does the one-pass form lose anything?",
    keys=("method", "format", "spread"),
    quantities=(
        Quantity("broken", "share of rows that are not numbers any more", percent=True),
        Quantity(
            "error", "of the other rows: the sum of what all probabilities are off by", logarithmic=True
        ),
    ),
    parts=(("formula", "shifted", "online"), SOFTMAXED, SPREADS),
    of=softmaxes,
    picture=Picture("spread", "format", "method"),
    seconds=12.0,
)

PRODUCTS = Calculation(
    name="products",
    seen=SEEN["products"],
    question="How wrong is a matrix product whose inputs are short, and is that what theory says?",
    keys=("format", "terms"),
    quantities=(
        Quantity(
            "error", "measured: the norm of what it is off by, as a part of the product's", logarithmic=True
        ),
        Quantity(
            "predicted", "of rounding errors that know nothing of each other: 0.30 · 2^−M", logarithmic=True
        ),
        Quantity("bound", "of the worst that could be: Higham 2002, §3.5", logarithmic=True),
    ),
    parts=(("fp32", *MULTIPLIED), WIDTHS),
    of=products,
    predicted={"error": ("predicted", "bound")},
    picture=Picture("terms", "format"),
    seconds=0.2,
)

CALCULATIONS = (SUMS, SOFTMAX, PRODUCTS)
