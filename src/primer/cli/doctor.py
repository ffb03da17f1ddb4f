"""`primer doctor`: is this machine ready, how fast is it, and does it compute rightly?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from primer.cli.flags import Verb, parse, show_help
from primer.errors import PrimerError, SurroundingsError


@dataclass(frozen=True)
class Options:
    """Of the command."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Which device to look at."""
    threads: int = 0
    """CPU threads to measure with. 0: as many as torch finds."""
    json: bool = False
    """Print one JSON object."""


VERB = Verb(
    name="doctor",
    takes="",
    about="Look at this machine: the device, its measured speed, versions, the cache folder, and whether the "
    "device computes the same as float64 on the CPU.",
    examples=("primer doctor", "primer doctor --device=cpu --threads=1", "primer doctor --json"),
    options=Options,
    most=0,
)


def run(argv: Sequence[str]) -> int:
    """Print the findings; exit code 3 when the device computes wrongly."""
    arguments = parse(VERB, argv)
    if arguments.help:
        show_help(VERB)
        return 0
    found = examine(arguments.options)
    wrong = [check["name"] for check in found["checks"] if not check["ok"]]
    if arguments.options.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        print(in_lines(found))
    if wrong:
        raise SurroundingsError(
            f"{found['device']} computes wrongly: {', '.join(wrong)}",
            hint="--train.device=cpu, or a newer torch",
        )
    return 0


def examine(options: Options) -> dict[str, Any]:
    """Everything that doctor knows, as plain values."""
    import torch

    import primer
    from primer import device as devices

    device = devices.choose(options.device, "--device")
    devices.set_threads(options.threads)
    narrow = devices.autocast_dtype(device, "auto")
    found = devices.describe(device) | {"primer": primer.__version__}
    found["matmul_flops"] = devices.matmul_rate(device)
    if narrow is not None:
        found[f"matmul_flops_{str(narrow).removeprefix('torch.')}"] = devices.matmul_rate(device, narrow)
    found["memory_bandwidth"] = devices.memory_bandwidth(device)
    found["precision"] = str(narrow or torch.float32).removeprefix("torch.")
    found["cache"], found["data"] = folders()
    found["checks"] = [asdict(check) | {"ok": check.ok} for check in devices.self_check(device)]
    return found


def folders() -> tuple[str, str | None]:
    """The cache folder and $PRIMER_DATA; what is wrong with them is told in their place."""
    from primer.assets import cache_dir, data_dir

    try:
        cache = str(cache_dir())
    except PrimerError as error:
        cache = str(error)
    try:
        data = data_dir()
    except PrimerError as error:
        return cache, str(error)
    return cache, str(data) if data else None


def in_lines(found: dict[str, Any]) -> str:
    """The findings for people."""
    rates = [
        f"{found[key] / 1e9:,.0f} GFLOP/s in {key.removeprefix('matmul_flops').strip('_') or 'float32'}"
        for key in found
        if key.startswith("matmul_flops")
    ]
    checks = found["checks"]
    wrong = [check for check in checks if not check["ok"]]
    verdict = f"all {len(checks)} operations agree with float64 on the CPU"
    if wrong:
        verdict = "; ".join(
            f"{c['name']} is off by {c['error']:.1e} (allowed {c['allowed']:.1e})" for c in wrong
        )
    lines = {
        "device": f"{found['device']}: {found['name']} ({found['capability']})",
        "threads": f"{found['threads']} on {found['cores']} cores",
        "memory": f"{found['memory_bytes'] / 2**30:.1f} GiB, copied at {found['memory_bandwidth'] / 1e9:.1f} GB/s",
        "matmul": ", ".join(rates),
        "precision": f"{found['precision']}, where a recipe says auto",
        "self-check": verdict,
        "versions": f"primer {found['primer']}, torch {found['torch']}, python {found['python']}",
        "system": found["system"],
        "cache": found["cache"],
        "PRIMER_DATA": found["data"] or "not set",
    }
    return "\n".join(f"{name:<12} {text}" for name, text in lines.items())
