"""Attention on one GPU: `python benchmarks/attention_gpu.py [--save]`, in less than eight minutes on an H100 or H200.

First it checks: every width, dtype and option of the kernels, their pairs, and shapes that are no multiple of a tile,
forward and backward, each at most twice as wrong as plain torch in the same dtype, by float64 (`kernels/budget`).
Then it measures TFLOP/s forward and backward beside torch's kernels (FlashAttention-2, cuDNN, FlexAttention);
windows and packed documents by the rate of their visible pairs; decoding by memory bandwidth; and memory.

It needs torch, triton, numpy, rich and jaxtyping, so that it also runs from a plain checkout:
`PYTHONPATH=src python benchmarks/attention_gpu.py`. `--device=cpu --tiny` runs it in miniature through Triton's
interpreter, to see that it does. FLOPs: 4·T·S·D a head forward, of visible pairs only; 2.5 times that backward.
"""

import argparse
import itertools
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

MEASURED = ("src/primer/kernels", "benchmarks/attention_gpu.py")
LIBRARY = ("library_flash", "library_cudnn", "flex")
TOKENS = 16_384
"""Tokens of a batch at every length."""
HIDDEN = 2048
"""Heads times width."""

OPTIONS: dict[str, dict[str, Any]] = {
    "causal": {"causal": True},
    "window": {"window": 70},
    "documents": {"documents": True},
    "padding": {"padding": True},
    "soft cap": {"soft_cap": 5.0},
    "dropout": {"dropout": 0.2, "dropout_seed": 7},
    "groups": {"groups": 3},
    "longer keys": {"extra_keys": 37},
    "values of another width": {"v_width": 48},
}


def case_tensors(
    device: str, dtype: torch.dtype, width: int, asked: dict[str, Any]
) -> tuple[list[Tensor], dict[str, Any]]:
    """q, k, v and dO for a combination of options, and attention's own arguments."""
    how = {"causal": False, **asked}
    groups, extra, v_width = how.pop("groups", 1), how.pop("extra_keys", 0), how.pop("v_width", width)
    documents, padding = how.pop("documents", False), how.pop("padding", False)
    T = 300 if device != "cpu" else 50
    B, Hkv, S = 2, 2, T + extra
    generator = torch.Generator().manual_seed(0)
    sizes = [
        (B, groups * Hkv, T, width),
        (B, Hkv, S, width),
        (B, Hkv, S, v_width),
        (B, groups * Hkv, T, v_width),
    ]
    tensors = [torch.randn(size, generator=generator).to(device, dtype) for size in sizes]
    if documents:
        how["document_ids"] = torch.randint(0, 4, (B, S), generator=generator).sort(1).values.to(device)
    if padding:
        seen = torch.rand(B, S, generator=generator) < 0.8
        seen[1, : S // 2] = False
        how["seen"] = seen.to(device)
    return tensors, how


def cases(device: str, tiny: bool) -> list[tuple[str, torch.dtype, int]]:
    """(options joined by +, dtype, width): all widths and dtypes, all options, and their pairs."""
    widths = (32, 64, 96, 128)
    half = torch.bfloat16 if device != "cpu" else torch.float16  # Triton's interpreter gets bfloat16 wrong
    found = [("causal", dtype, width) for dtype in (half, torch.float16, torch.float32) for width in widths]
    found += [(name, half, width) for name in ("", *OPTIONS) for width in (64, 128)]
    found += [(f"{a}+{b}", half, 64 if number % 2 else 128)
              for number, (a, b) in enumerate(itertools.combinations(OPTIONS, 2))]  # fmt: skip
    return found[::6] if tiny else found


def check_case(device: str, case: tuple[str, torch.dtype, int]) -> list[str]:
    """What is wrong with a case; in a process of its own, since most of its time goes into compiling."""
    from primer.kernels.attention import IMPLEMENTATIONS
    from primer.kernels.budget import errors

    warnings.simplefilter("ignore")
    names, dtype, width = case
    asked: dict[str, Any] = {}
    for name in filter(None, names.split("+")):
        asked |= OPTIONS[name]
    (q, k, v, d_out), how = case_tensors(device, dtype, width, asked)
    poison(device)
    found = errors(IMPLEMENTATIONS["gpu"], q, k, v, d_out, **how)
    label = f"{names or 'full'}, width {width}, {dtype}"
    wrong = [
        f"{label}: {name} {error.found:.1e}, plain {error.plain:.1e}"
        for name, error in found.items()
        if not error.ok
    ]
    if "dropout" not in how:
        with torch.no_grad():  # a few queries are decoded by a kernel of their own
            few = errors(IMPLEMENTATIONS["gpu"], q[:, :, -3:], k, v, **how)
        wrong += [f"{label}, decoding: {name} {error.found:.1e}, plain {error.plain:.1e}"
                  for name, error in few.items() if not error.ok]  # fmt: skip
    return wrong


def poison(device: str) -> None:
    """Memory that is handed out next is full of NaN, so that what is read before it is written shows."""
    for size in (2**16, 2**18, 2**20, 2**22):
        kept = [torch.full((size,), float("nan"), device=device) for _ in range(8)]
        del kept


def check(device: str, console: Console, tiny: bool) -> int:
    """Stops with what is wrong; how many cases were right."""
    asked = cases(device, tiny)
    with ProcessPoolExecutor(
        min(14, os.cpu_count() or 1), mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        wrong = [each for found in pool.map(check_case, [device] * len(asked), asked) for each in found]
    for each in wrong:
        console.print(f"[red]{each}")
    if wrong:
        raise SystemExit(f"{len(wrong)} results are more than twice as wrong as plain torch's")
    return len(asked)


def seconds(run: Callable[[], object], device: str, rounds: int = 12) -> float:
    """Of the median call, by the device's own clock: replays of a graph, so that the host has no part in it."""
    for _ in range(2):
        run()
    if device == "cpu":
        spent = []
        for _ in range(3):
            started = time.perf_counter()
            run()
            spent.append(time.perf_counter() - started)
        return sorted(spent)[1]
    run = replayed(run)
    marks = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        marks.append((begin, end))
    torch.cuda.synchronize()
    return sorted(begin.elapsed_time(end) for begin, end in marks)[rounds // 2] / 1e3


def replayed(run: Callable[[], object]) -> Callable[[], object]:
    """The call's kernels alone. What cannot be captured is called as it is."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    except RuntimeError:
        torch.cuda.synchronize()
        return run
    return graph.replay


def host_microseconds(name: str, device: str) -> float:
    """What a forward call costs the host, where the device has little to do."""
    from primer.kernels.attention import attention

    q, k, v = (torch.randn(1, 1, 128, 128, device=device, dtype=torch.bfloat16) for _ in range(3))
    with torch.no_grad():
        for _ in range(20):
            attention(q, k, v, implementation=name)
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(200):
            attention(q, k, v, implementation=name)
        spent = time.perf_counter() - started
        torch.cuda.synchronize()
    return round(spent / 200 * 1e6, 1)


def rates(
    name: str,
    device: str,
    T: int,
    D: int,
    *,
    tiny: bool,
    backward: bool = True,
    pairs: float | None = None,
    **how: Any,
) -> dict[str, float]:
    """TFLOP/s forward and backward of one implementation. pairs: the share of the T × T that is visible."""
    from primer.kernels.attention import attention

    B, H = (1, 2) if tiny else (TOKENS // T, HIDDEN // D)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    q, k, v, d_out = (torch.randn(B, H, T, D, device=device, dtype=dtype) for _ in range(4))
    share = pairs if pairs is not None else 0.5 if how.get("causal", True) else 1.0
    flops = 4 * B * H * T * T * D * share
    with torch.no_grad():
        found = {
            "forward": flops / seconds(lambda: attention(q, k, v, implementation=name, **how), device) / 1e12
        }
    if backward:
        leaves = [x.requires_grad_() for x in (q, k, v)]
        out = attention(*leaves, implementation=name, **how)
        spent = seconds(lambda: torch.autograd.grad(out, leaves, d_out, retain_graph=True), device)
        found["backward"] = 2.5 * flops / spent / 1e12
    return {key: round(value, 4 if tiny else 1) for key, value in found.items()}


def tables(device: str, console: Console, tiny: bool) -> dict[str, Any]:
    """The implementations side by side, for each width and length, causal and full."""
    figures: dict[str, Any] = {}
    lengths = (64,) if tiny else (1024, 2048, 4096, 8192, 16384)
    names = ("gpu", "library") if device == "cpu" else ("gpu", *LIBRARY)
    for D, causal in itertools.product((128, 64), (True, False)):
        title = f"width {D}, {'causal' if causal else 'full'}: TFLOP/s forward · backward"
        table = Table("", *(Column(f"T = {T:,}", justify="right") for T in lengths), title=title)
        for name in names:
            cells = []
            for T in lengths:
                if name == "flex" and T != 8192:
                    cells.append("")  # it compiles for every length
                    continue
                try:
                    found = rates(name, device, T, D, tiny=tiny, causal=causal)
                except RuntimeError as error:
                    cells.append(type(error).__name__)
                    continue
                figures.setdefault(title.partition(":")[0], {}).setdefault(name, {})[str(T)] = found
                cells.append(f"{found['forward']:g} · {found['backward']:g}")
            table.add_row(name, *cells)
        console.print(table)
    return figures


def sparse(device: str, console: Console, tiny: bool) -> dict[str, Any]:
    """Windows and packed documents: TFLOP/s of the pairs that are visible, beside causal attention's own rate."""
    T = 64 if tiny else 16_384
    figures: dict[str, Any] = {}
    documents = torch.arange(8, device=device).repeat_interleave(T // 8)[None]
    asked: dict[str, tuple[float, dict[str, Any]]] = {
        "causal, all": (0.5, {}),
        "causal, of one document's length": (0.5, {"length": T // 8}),
        "window T/4": (1 / 4 - 1 / 32, {"window": T // 4}),
        "window T/16": (1 / 16 - 1 / 512, {"window": T // 16}),
        "eight documents": (1 / 16, {"document_ids": documents}),
    }
    table = Table("", "TFLOP/s forward", "backward", title=f"visible pairs only, width 128, T = {T:,}")
    for name, (pairs, how) in asked.items():
        length = how.pop("length", T)
        found = rates("gpu", device, length, 128, tiny=tiny, pairs=pairs, **how)
        figures[name] = found
        table.add_row(name, f"{found['forward']:g}", f"{found['backward']:g}")
    console.print(table)
    return figures


def copy_rate(device: str, dtype: torch.dtype, size: int) -> float:
    """GB/s of a large copy, counting what is read and what is written."""
    source = torch.randn(size, device=device, dtype=dtype)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source), device) / 1e9


def decoding(device: str, console: Console, tiny: bool) -> dict[str, Any]:
    """GB/s at which one new token's query reads keys and values, beside a copy's."""
    from primer.kernels.attention import attention
    from primer.kernels.attention.gpu.decode import decode

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    copy = copy_rate(device, dtype, 2**16 if tiny else 2**30)
    figures: dict[str, Any] = {"copy, read and written": round(copy, 1)}
    table = Table("", "GB/s", "of a copy's", title="decoding: one query a row")
    sizes = (
        [(1, 2, 1, 200, 64)]
        if tiny
        else [(16, 32, 8, 16384, 128), (64, 16, 16, 4096, 64), (64, 32, 4, 8192, 128)]
    )
    for B, H, Hkv, S, D in sizes:
        q = torch.randn(B, H, 1, D, device=device, dtype=dtype)
        k, v = (torch.randn(B, Hkv, S, D, device=device, dtype=dtype) for _ in range(2))
        page = 16 if tiny else 64
        pools = [
            x.unflatten(2, (-1, page)).transpose(1, 2).flatten(0, 1).contiguous()
            for x in (k[:, :, : S // page * page], v[:, :, : S // page * page])
        ]
        pages = torch.arange(B * (S // page), dtype=torch.int32, device=device).view(B, -1)
        lengths = torch.full((B,), S // page * page, dtype=torch.int32, device=device)
        settings = {"causal": True, "window": 0, "softmax_scale": D**-0.5, "soft_cap": 0.0}
        runs: dict[str, Callable[[], object]] = {
            "contiguous": lambda: attention(q, k, v, implementation="gpu"),  # noqa: B023
            f"pages of {page}": lambda: decode(q, *pools, lengths=lengths, page_table=pages, **settings),  # noqa: B023
            "library": lambda: attention(q, k, v, implementation="library"),  # noqa: B023
        }
        for name, run in runs.items():
            with torch.no_grad():
                rate = (k.nbytes + v.nbytes) / seconds(run, device) / 1e9
            label = f"{B} × {H} heads over {Hkv}, {S:,} keys of {D}, {name}"
            figures[label] = round(rate, 1)
            table.add_row(label, f"{rate:,.0f}", f"{rate / copy:.0%}")
    console.print(table)
    return figures


def memory(device: str, console: Console) -> dict[str, Any]:
    """MB that a forward and backward pass takes beyond its tensors, at T = 16,384, one head of width 128."""
    from primer.kernels.attention import attention

    figures: dict[str, Any] = {}
    for name in ("gpu", "library_flash", "reference"):
        torch.cuda.empty_cache()
        leaves = [
            torch.randn(1, 1, 16_384, 128, device=device, dtype=torch.bfloat16, requires_grad=True)
            for _ in range(3)
        ]
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        attention(*leaves, implementation=name).sum().backward()
        figures[name] = round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)
    console.print("MB beyond q, k and v at T = 16,384, one head of width 128:", figures)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="default cuda")
    parser.add_argument("--tiny", action="store_true", help="everything in miniature")
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results/attention_gpu.json"
    )
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["TRITON_INTERPRET"] = (
            "1"  # read when triton is imported, here and in the processes that check
        )
    from primer import device as devices

    device = devices.choose(options.device, "--device")
    console = Console(width=150)
    torch.manual_seed(0)
    right = check(str(device), console, options.tiny)
    console.print(f"{devices.describe(device)['name']}: right in {right} cases")
    figures: dict[str, Any] = {"cases checked": right}
    figures |= tables(str(device), console, options.tiny)
    figures["visible pairs"] = sparse(str(device), console, options.tiny)
    figures["decoding GB/s"] = decoding(str(device), console, options.tiny)
    if device.type == "cuda":
        figures["MB at T = 16,384"] = memory(str(device), console)
        figures["host µs a call"] = {
            name: host_microseconds(name, str(device)) for name in ("gpu", *LIBRARY[:2])
        }
        console.print("host µs a call:", figures["host µs a call"])
        figures["matmul TFLOP/s"] = round(devices.matmul_rate(device, torch.bfloat16) / 1e12, 1)
        console.print(f"matmul {figures['matmul TFLOP/s']} TFLOP/s")
    if options.save:
        from receipt import write

        console.print(write("attention_gpu", figures, measured=MEASURED, device=str(device)).name)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
