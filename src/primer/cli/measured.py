"""What was measured of an operator's implementations: tables for the terminal, JSON, and a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primer.cli.plan import megabytes
from primer.cli.table import table

if TYPE_CHECKING:
    import torch

    from primer.kernels.attention.measure import Measured, Row
    from primer.kernels.attention.roofline import Machine, Roof, Workload


def in_words(found: Sequence[Measured]) -> str:
    """For people: the machine, a table a length, and how to read them."""
    parts = [about_machine(found[0].machine, name_of(found[0].workload.dtype))]
    parts += [of_length(each) for each in found]
    return "\n\n".join([*parts, legend(found[-1])])


def name_of(dtype: torch.dtype) -> str:
    """float32, bfloat16 …"""
    return str(dtype).removeprefix("torch.")


def about_machine(machine: Machine, dtype: str) -> str:
    """Two ceilings, and where they meet."""
    from primer import device as devices

    about = devices.describe(machine.device)
    count = about["threads"]
    threads = f", {count} thread{'s' * (count > 1)}" if machine.device.type == "cpu" else ""
    scale, unit = scale_of(machine)
    return (
        f"attention on {machine.device}: {about['name']}{threads}\n"
        f"measured just now: {machine.peak / scale:,.0f} {unit} in a product of {dtype} matrices, "
        f"{machine.bandwidth / 1e9:,.1f} GB/s in a copy:\n"
        f"work of less than {machine.peak / machine.bandwidth:,.1f} FLOPs for each byte that it moves waits for memory"
    )


def scale_of(machine: Machine) -> tuple[float, str]:
    """The unit of all rates."""
    return (1e12, "TFLOP/s") if machine.peak >= 1e13 else (1e9, "GFLOP/s")


def of_length(found: Measured) -> str:
    """The table of one length, the fastest first, the roofline last; beneath it what is wrong and what is missing."""
    asked, (_, unit) = found.workload, scale_of(found.machine)
    head = ["implementation"]
    for which in asked.passes:
        head += [which, unit, "of roof"]
    rows = sorted(found.rows.items(), key=lambda item: time_of(item[1], found))
    lines = [(*head, "memory", "error", "× plain")]
    lines += [(name, *cells(row, found)) for name, row in rows]
    lines.append(("roofline", *roof_cells(found)))
    parts = [
        about_workload(asked),
        f"{asked.visible_pairs:,} of {asked.batch_size * asked.n_heads * asked.context_length**2:,} pairs of query "
        f"and key are visible; times: medians of {found.turns} turns; errors: of {about_judged(asked.judged())}",
        table(lines, right=range(1, len(lines[0]))),
        about_roof(found),
    ]
    for name, row in rows:
        if wrong := [
            f"{what} {e.found:.0e}, plain torch {e.plain:.0e}" for what, e in row.errors.items() if not e.ok
        ]:
            parts.append(f"{name} exceeds the budget of errors: {'; '.join(wrong)}")
    if found.missing:
        parts.append("not measured:\n" + table([("  " + name, why) for name, why in found.missing.items()]))
    return "\n".join(parts)


def time_of(row: Row, found: Measured) -> float:
    """Seconds of all passes; of what was not timed, more than of all others."""
    spent = [row.seconds(which) for which in found.workload.passes]
    return sum(each for each in spent if each is not None) if None not in spent else math.inf


def cells(row: Row, found: Measured) -> list[str]:
    """Of one implementation; a dash where nothing is known."""
    cells, (scale, _) = list[str](), scale_of(found.machine)
    for which in found.workload.passes:
        roof, spent = found.roof(which), row.seconds(which)
        if spent is None:
            cells += ["-"] * 3
        else:
            rate = roof.flops / spent
            cells += [milliseconds(spent), f"{rate / scale:,.1f}", f"{rate / roof.rate:.0%}"]
    cells.append("-" if row.memory is None else megabytes(row.memory))
    errors = [error for what, error in row.errors.items() if what != "lse"]  # which float32 itself may spoil
    if not errors:
        return [*cells, "-", "-"]
    times = max(error.found / error.plain if error.plain else 1.0 for error in errors)
    return [*cells, f"{max(error.found for error in errors):.1e}", f"{times:.2g}"]


def milliseconds(seconds: float) -> str:
    """Three digits."""
    thousandths = seconds * 1e3
    return f"{thousandths:,.0f} ms" if thousandths >= 100 else f"{thousandths:#.3g} ms"


def roof_cells(found: Measured) -> list[str]:
    """Of the roofline."""
    cells, (scale, _) = list[str](), scale_of(found.machine)
    for which in found.workload.passes:
        roof = found.roof(which)
        cells += [milliseconds(roof.seconds), f"{roof.rate / scale:,.1f}", ""]
    return [*cells, megabytes(found.workload.results), "", ""]


def about_workload(asked: Workload) -> str:
    """What is computed."""
    rows = f"{asked.batch_size:,} row{'s' * (asked.batch_size > 1)}"
    heads = f"{asked.n_heads} head{'s' * (asked.n_heads > 1)} of {asked.d_head}"
    parts = [f"T = {asked.context_length:,}: {rows}", heads, name_of(asked.dtype)]
    if asked.n_kv_heads != asked.n_heads:
        parts[1] += f" over {asked.n_kv_heads}"
    parts += [f"values of {asked.d_value}"] if asked.d_value != asked.d_head else []
    parts += ["causal" if asked.causal else "full"]
    parts += [f"window {asked.window:,}"] if asked.window else []
    parts += [f"{asked.documents:,} documents a row"] if asked.documents > 1 else []
    parts += [f"soft cap {asked.soft_cap:g}"] if asked.soft_cap else []
    parts += [f"dropout {asked.dropout:g}"] if asked.dropout else []
    return ", ".join(parts)


def about_judged(judged: Workload) -> str:
    """The size that errors are of."""
    window = f", window {judged.window:,}" if judged.window else ""
    documents = f", {judged.documents:,} documents" if judged.documents > 1 else ""
    return f"one row of {judged.context_length:,} tokens{window}{documents}"


def about_roof(found: Measured) -> str:
    """What is counted, a line a pass."""
    lines = []
    for which in found.workload.passes:
        roof = found.roof(which)
        lines.append(
            f"roofline, {which}: {roof.flops / 1e9:,.3g} GFLOP that move {megabytes(roof.bytes)} at least, "
            f"{roof.intensity:,.0f} FLOPs a byte: {ceiling(roof)}"
        )
    return "\n".join(lines)


def ceiling(roof: Roof) -> str:
    """Which of the two it is."""
    return "the matrix product is the ceiling" if roof.limit == "compute" else "memory is the ceiling"


def legend(found: Measured) -> str:
    """How to read the tables."""
    rows = found.rows.values()
    of = "of tensors" if found.machine.device.type == "cuda" else "of the whole process"
    memory = f"the peak {of}, beyond what there was before; the roofline: the results alone"
    lines = {
        "of roof": "FLOPs of visible pairs only; the roofline is what this machine did once, and noise may exceed it",
        "memory": memory if all(row.memory is not None for row in rows) else "nobody counts it here",
        "error": "‖found − true‖ / ‖true‖ by float64, the largest of output and gradients",
        "× plain": "how many times plain torch's error that is; the budget is 2",
    }
    if not all(row.errors for row in rows):
        lines["-"] = "the weights that are dropped are a draw of its own: there is nothing to compare"
    return "\n".join(f"{name:<8} {text}" for name, text in lines.items())


def as_json(found: Sequence[Measured], *, complete: bool) -> str:
    """For programs. complete: whether it came to its end."""
    from primer import device as devices

    machine = found[0].machine
    told = {
        "machine": devices.describe(machine.device)
        | {"matmul_flops": machine.peak, "memory_bandwidth": machine.bandwidth},
        "complete": complete,
        "lengths": [of_length_in_json(each) for each in found],
    }
    return json.dumps(told, ensure_ascii=False, allow_nan=False)


def of_length_in_json(found: Measured) -> dict[str, Any]:
    """One length."""
    asked = found.workload
    roofs = {which: found.roof(which) for which in asked.passes}
    return {
        "workload": asdict(asked) | {"dtype": name_of(asked.dtype), "visible_pairs": asked.visible_pairs},
        "judged": {name: getattr(asked.judged(), name) for name in ("context_length", "window", "documents")},
        "roofline": {which: roof_in_json(roof) for which, roof in roofs.items()} | {"memory": asked.results},
        "implementations": {name: row_in_json(row, roofs) for name, row in found.rows.items()},
        "not_measured": found.missing,
    }


def roof_in_json(roof: Roof) -> dict[str, Any]:
    """The ceiling over one pass."""
    names = ("flops", "bytes", "intensity", "limit", "rate", "seconds")
    return {name: getattr(roof, name) for name in names}


def row_in_json(row: Row, roofs: Mapping[Any, Roof]) -> dict[str, Any]:
    """One implementation; null where nothing is known, and for an error that is no number."""
    told: dict[str, Any] = {}
    for which, roof in roofs.items():
        spent = row.seconds(which)
        told[which] = spent and {
            "seconds": spent,
            "rate": roof.flops / spent,
            "share": roof.flops / spent / roof.rate,
            "turns": len(row.turns[which]),
        }
    errors = {
        what: {"found": e.found if math.isfinite(e.found) else None, "plain": e.plain, "ok": e.ok}
        for what, e in row.errors.items()
    }
    return told | {"memory": row.memory, "ok": row.ok, "errors": errors}


def save_rates(found: Sequence[Measured], file: str) -> Path:
    """Draw a panel a pass: a line an implementation, and above them what the machine allows."""
    from matplotlib.figure import Figure

    from primer.assets import writing

    passes, (scale, unit) = found[0].workload.passes, scale_of(found[0].machine)
    found = sorted(found, key=lambda each: each.workload.context_length)
    figure = Figure(figsize=(2 + 5 * len(passes), 5), layout="constrained")
    for axes, which in zip(figure.subplots(1, len(passes), squeeze=False)[0], passes, strict=True):
        roof = [(each.workload.context_length, each.roof(which).rate / scale) for each in found]
        for name in dict.fromkeys(name for each in found for name in each.rows):
            points = [
                (each.workload.context_length, each.roof(which).flops / spent / scale)
                for each in found
                if name in each.rows and (spent := each.rows[name].seconds(which))
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.plot(*zip(*roof, strict=True), color="black", ls="--", marker="_", label="roofline")
        axes.set_xscale("log", base=2)
        axes.set_xticks([T for T, _ in roof], [f"{T:,}" for T, _ in roof])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("context length")
        axes.set_ylabel(f"{unit} of visible pairs")
        axes.set_title(which)
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
    with writing(Path(file)):
        figure.savefig(file, dpi=150)
    return Path(file)
