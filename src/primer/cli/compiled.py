"""What the compilers make of attention's kernels for a GPU that need not be here, and how to read that."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from primer.cli.table import table
from primer.errors import SurroundingsError, UsageError, missing_extra, nearest

if TYPE_CHECKING:
    from primer.kernels.attention.assembly import Report, Variant


HOW_TO_READ = """\
registers  a thread's own numbers, of 32 bits. A multiprocessor has 65,536: at 128 a thread 512 threads share it, at
           255, the most there is, 256. The fewer there are, the fewer can compute while others wait for memory.
spilled    bytes of numbers that found no register: each thread writes them to memory and reads them again, and where
           that is in the loop over keys, for every tile. The aim is none.
shared     bytes of a multiprocessor's own memory, where a block of threads keeps its tiles: of 227 KiB (H100) or
           163 KiB (A100). Two blocks work side by side only where both fit.
HGMMA      matrix instructions of Hopper: 128 threads together multiply a tile of 64 rows out of shared memory, and go
           on while that is done. HMMA, the older kind, goes through the registers of 32 threads; on an H100 it
           reaches about two thirds of the rate (Shah et al. 2024, FlashAttention-3).
waits      places where threads stop until HGMMAs have ended. As many as HGMMAs: each product is waited for before the
           next begins. Few: products, the exponentials of softmax and loads run side by side.
warnings   the assembler's. C7510 and its like: it could not keep products apart, and does them one after the other.
Counts are of instructions as they stand in the code; how often each is run, they do not say."""


@dataclass
class Compiled:
    """Of the kernels of one call."""

    reports: list[Report] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Kernels that were not compiled, and what was said."""


def require(architecture: str) -> None:
    """SurroundingsError where nothing can be compiled, UsageError for an architecture that there is no table of."""
    try:
        import triton

        from primer.kernels.attention.assembly import ARCHITECTURES
    except ImportError:
        raise missing_extra("triton", "gpu") from None
    if architecture not in ARCHITECTURES:
        close = nearest(architecture, list(ARCHITECTURES)) or next(reversed(ARCHITECTURES))
        raise UsageError(f"no table is made for {architecture!r}", "--asm", f"--asm={close}")
    if triton.knobs.runtime.interpret:
        raise SurroundingsError(
            "with TRITON_INTERPRET kernels are run a statement at a time, and not compiled",
            hint="the same command without that variable",
        )


def variant(width: int, dtype: str, features: Sequence[str]) -> Variant:
    """What is compiled. UsageError for a width that the kernels do not know, and for several options at once."""
    import torch

    from primer.kernels.attention import assembly, gpu

    if width > gpu.WIDEST or width % 8:
        raise UsageError(
            f"the kernels know widths up to {gpu.WIDEST} that are multiples of 8", "--d-head", "--d-head=64"
        )
    if len(features) > 1:
        raise UsageError(
            f"one option at a time is compiled, not {' and '.join(features)}", "--asm", "all but one left out"
        )
    dtypes = {"fp32": torch.float32, "fp16": torch.float16}
    return assembly.Variant(width, dtypes.get(dtype, torch.bfloat16), features[0] if features else "causal")


def compile_into(
    found: dict[Variant, Compiled],
    variants: Sequence[Variant],
    architecture: str,
    tell: Callable[[str, float | None], None],
) -> None:
    """Compile, and note down what came of each kernel at once, for whoever stops it."""
    from primer.kernels.attention import assembly

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Triton's, of what its next version will do otherwise
        for number, each in enumerate(variants):
            tell(f"compiling: {each}", number / len(variants))
            of = found.setdefault(each, Compiled())
            for launch in assembly.launches(each, architecture):
                try:
                    of.reports.append(assembly.report(launch, architecture))
                except Exception as error:  # whatever it is, it is told in the kernel's place
                    source = launch.kernel.fn
                    name = f"{source.__module__.rpartition('.')[2]}.{source.__name__}"
                    of.failed[name] = said_by(error)


def said_by(error: BaseException) -> str:
    """In one line: what a tool said that ended with an error, or what was wrong at first."""
    while (
        error.__cause__ is not None
    ):  # Triton's own errors quote the kernel, and are raised from what they are about
        error = error.__cause__
    text = getattr(error, "stderr", None) or str(error)
    return next((line for line in text.splitlines() if line.strip()), type(error).__name__)


def in_words(found: Mapping[Variant, Compiled], architecture: str) -> str:
    """A table a call, and how to read it."""
    parts = [f"what the compilers make of attention's kernels for {architecture}"]
    for each, compiled in found.items():
        rows: list[tuple[str, ...]] = [
            ("kernel", "registers", "spilled", "shared", "HGMMA", "HMMA", "waits", "warnings")
        ]
        for r in compiled.reports:
            figures = (r.registers, r.spilled, r.shared, r.hgmma, r.hmma, r.waits)
            rows.append((r.kernel, *(f"{figure:,}" for figure in figures), " ".join(r.warnings)))
        failed = [f"{kernel} was not compiled: {said}" for kernel, said in compiled.failed.items()]
        figures_of = [table(rows, right=range(1, 7))] if compiled.reports else []
        parts.append("\n".join([str(each), *figures_of, *failed]))
    return "\n\n".join([*parts, HOW_TO_READ])


def as_json(found: Mapping[Variant, Compiled], architecture: str) -> str:
    """For programs."""
    told = [
        {"width": each.width, "dtype": str(each.dtype).removeprefix("torch."), "feature": each.feature}
        | {"kernels": [report._asdict() for report in compiled.reports], "failed": compiled.failed}
        for each, compiled in found.items()
    ]
    return json.dumps({"architecture": architecture, "variants": told}, ensure_ascii=False)
