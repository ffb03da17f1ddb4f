"""`primer bench`: what each implementation of an operator costs, beside the least that this machine could take."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from primer.cli.flags import Verb, parse, show_help
from primer.errors import SurroundingsError, UsageError

if TYPE_CHECKING:
    import torch

    from primer.cli.compiled import Compiled
    from primer.kernels.attention.assembly import Variant
    from primer.kernels.attention.measure import Measured
    from primer.kernels.attention.roofline import Workload


@dataclass(frozen=True)
class Options:
    """Of the command."""

    context_length: tuple[int, ...] = (1024,)
    """How many tokens a row has; several, with commas between, are measured one after the other."""
    batch_size: int = 1
    """Rows."""
    n_heads: int = 8
    """Heads of queries."""
    n_kv_heads: int = 0
    """Heads of keys and values, each shared by a group of query heads. 0: as many as query heads."""
    d_head: int = 64
    """Width of a head's queries and keys."""
    d_value: int = 0
    """Width of its values. 0: as wide as its keys."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of q, k and v. auto: bf16 where the device is made for it, else fp32."""
    causal: bool = True
    """No query sees what is later than itself."""
    window: int | None = None
    """A query sees itself and the positions before it, so many in all (--no-causal: as many after it). Unset: all."""
    documents: int = 1
    """So many documents of equal length are packed in each row, and do not see each other."""
    soft_cap: float = 0.0
    """Bend scores so that none is beyond this. 0: none."""
    dropout: float = 0.0
    """The chance of a weight to be dropped."""
    backward: bool = True
    """Time the backward pass too, and the forward pass as it is in training. --no-backward: as it is in use."""
    implementations: str = ""
    """Only these, with commas between. Empty: all; those that cannot do it are listed with their reason."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    threads: int = 0
    """CPU threads. 0: as many as torch finds."""
    seconds: float = 1.0
    """How long to measure, for each implementation and each length; three turns each at least."""
    json: bool = False
    """Print one JSON object."""
    plot: str | None = None
    """Draw rates against lengths, under the roofline, into this file: .png or .svg (needs the extra "plots")."""
    asm: str = ""
    """Measure nothing; print what compilers make of the GPU's kernels for this architecture, which need not be here:
    sm_80 (A100) or sm_90a (H100). The width, the dtype (auto: bf16) and one option are those of the other flags."""
    all: bool = False
    """With --asm: of every width, dtype and option that the project has a table of; takes minutes."""

    def __post_init__(self) -> None:
        check(self)


def check(options: Options) -> None:
    """UsageError, with the flag's name, for what nobody can compute."""
    least = {
        "--context-length": min(options.context_length, default=0),
        "--batch-size": options.batch_size,
        "--n-heads": options.n_heads,
        "--d-head": options.d_head,
        "--documents": options.documents,
        "--window": 1 if options.window is None else options.window,
    }
    for flag, value in least.items():
        if value < 1:
            raise UsageError(f"{flag} must be at least 1", hint=f"{flag}={4 if flag == '--window' else 1}")
    if min(options.n_kv_heads, options.d_value, options.threads, options.soft_cap) < 0:
        raise UsageError("--n-kv-heads, --d-value, --threads and --soft-cap must not be negative", hint="0")
    if options.n_kv_heads and options.n_heads % options.n_kv_heads:
        fitting = [n for n in range(1, options.n_kv_heads) if options.n_heads % n == 0]
        raise UsageError(
            f"--n-heads={options.n_heads} does not divide by --n-kv-heads={options.n_kv_heads}",
            hint=f"--n-kv-heads={fitting[-1]}",
        )
    if not 0 <= options.dropout < 1:
        raise UsageError(
            f"--dropout is a chance, from 0 to below 1, not {options.dropout:g}", hint="--dropout=0.1"
        )
    if options.documents > min(options.context_length):
        raise UsageError(
            f"{options.documents:,} documents do not fit into {min(options.context_length):,} tokens",
            hint=f"--documents={min(options.context_length)}",
        )
    if not options.seconds > 0:
        raise UsageError("--seconds must be above 0", hint="--seconds=1")
    if options.all and not options.asm:
        raise UsageError("--all goes with --asm", hint="--asm=sm_90a --all")
    if options.asm and options.plot:
        raise UsageError("--plot draws what was measured, and --asm measures nothing", hint="leave one out")


EXAMPLES = (
    "primer bench attention",
    "primer bench attention --context-length=256,512,1024,2048 --implementations=cpu,library --plot=rates.png",
    "primer bench attention --asm=sm_90a --d-head=128",
)
ABOUT_ATTENTION = (
    "Time, rate, memory and error of every implementation of attention at sizes of your choice, beside the roofline: "
    "the least that this machine could take, from the FLOPs that are needed, the bytes that must move, and its own "
    "rates for a matrix product and a copy. Ctrl-C prints what was measured so far."
)
BENCH = Verb("bench", "attention", "Measure an operator. " + ABOUT_ATTENTION, EXAMPLES, Options)
ATTENTION = Verb("bench attention", "", ABOUT_ATTENTION, EXAMPLES, Options, most=0)


def run(argv: Sequence[str]) -> int:
    """Run the verb below `bench`."""
    if not argv or argv[0].startswith("-"):
        if "-h" in argv or "--help" in argv:
            show_help(BENCH)
            return 0
        raise UsageError("primer bench needs a word: what is measured", hint=EXAMPLES[0])
    word, *rest = argv
    if word != "attention":
        raise UsageError(f"unknown verb {word!r}", "primer bench", EXAMPLES[0])
    return attention(rest)


def attention(argv: Sequence[str]) -> int:
    """Measure, or compile, and print what was found; after Ctrl-C what was found until then."""
    arguments = parse(ATTENTION, argv)
    if arguments.help:
        show_help(ATTENTION)
        return 0
    return compiled(arguments.options) if arguments.options.asm else measured(arguments.options)


def measured(options: Options) -> int:
    """Measure. SurroundingsError where no implementation can do what is asked."""
    if options.plot:
        from primer.cli.plots import require

        require(options.plot)

    from primer import device as devices
    from primer.cli.measured import as_json, in_words, save_rates
    from primer.kernels.attention.measure import chosen, measure
    from primer.kernels.attention.roofline import look_at

    names = chosen(options.implementations)
    device = devices.choose(options.device, "--device")
    dtype = dtype_of(options.dtype, device)
    devices.set_threads(options.threads)
    found: dict[int, Measured] = {}
    complete = False
    try:
        with telling() as tell:
            tell("measuring the machine's two ceilings", None)
            machine = look_at(device, dtype)
            for T in dict.fromkeys(options.context_length):
                for state in measure(workload(options, T, dtype), machine, names, options.seconds):
                    found[T] = state
                    tell(f"T = {T:,}: {state.doing}", state.done)
        complete = True
    finally:  # also of what somebody stops, or what fails at a later length
        states = [state for state in found.values() if state.rows or state.refused]
        if states:
            print(as_json(states, complete=complete) if options.json else in_words(states))
            if options.plot and any(row.turns for state in states for row in state.rows.values()):
                print(f"drawn into {save_rates(states, options.plot)}", file=sys.stderr)
    if not any(state.rows for state in states):
        raise SurroundingsError(
            "nothing could be measured, for the reasons above", hint="primer bench attention"
        )
    return 0


def compiled(options: Options) -> int:
    """Compile the GPU's kernels."""
    from primer.cli.compiled import as_json, compile_into, in_words, require, variant

    require(options.asm)

    from primer.kernels.attention.assembly import VARIANTS

    asked = {
        "full": not options.causal,
        "window": options.window is not None,
        "documents": options.documents > 1,
        "soft cap": options.soft_cap > 0,
        "dropout": options.dropout > 0,
    }
    features = [name for name, there in asked.items() if there]
    variants = VARIANTS if options.all else [variant(options.d_head, options.dtype, features)]
    found: dict[Variant, Compiled] = {}
    try:
        with telling() as tell:
            compile_into(found, variants, options.asm, tell)
    finally:
        if found:
            print(as_json(found, options.asm) if options.json else in_words(found, options.asm))
    if not any(each.reports for each in found.values()):
        raise SurroundingsError(
            "nothing could be compiled, for the reasons above", hint="another version of triton"
        )
    return 0


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """torch's word for a dtype; auto: what the device is made for."""
    import torch

    from primer import device as devices

    if name == "auto":
        return devices.autocast_dtype(device, "auto") or torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def workload(options: Options, T: int, dtype: torch.dtype) -> Workload:
    """What is asked for, of one length."""
    from primer.kernels.attention.roofline import Workload

    return Workload(
        batch_size=options.batch_size,
        n_heads=options.n_heads,
        n_kv_heads=options.n_kv_heads or options.n_heads,
        context_length=T,
        d_head=options.d_head,
        d_value=options.d_value or options.d_head,
        dtype=dtype,
        causal=options.causal,
        window=options.window,
        documents=options.documents,
        soft_cap=options.soft_cap,
        dropout=options.dropout,
        backward=options.backward,
    )


@contextmanager
def telling() -> Iterator[Callable[[str, float | None], None]]:
    """Who says on stderr what is being done, and which part is over: a line that renews itself, or a line for each."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console

        with Console(stderr=True, highlight=False, markup=False).status("") as status:
            yield lambda what, done: status.update(f"{what} {min(done, 1):.0%}" if done else what)
        return
    said = ""

    def tell(what: str, done: float | None) -> None:
        nonlocal said
        if what != said:
            print(what, file=sys.stderr, flush=True)
        said = what

    yield tell
