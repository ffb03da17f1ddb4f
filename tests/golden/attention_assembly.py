"""Registers and shared memory of every attention kernel: `python tests/golden/attention_assembly.py` writes them down.

They are those of Triton 3.6.0, whose assembler is CUDA 12.8's; another version's differ.
`tests/kernels/test_assembly.py` compares with them.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from primer.kernels.attention.assembly import ARCHITECTURES, VARIANTS, Report, Variant, reports

RECORDED = Path(__file__).with_suffix(".json")


def label(variant: Variant, report: Report) -> str:
    return f"{report.kernel}: {variant}"


def measured(architecture: str, variant: Variant) -> dict[str, list[int]]:
    """[registers, bytes of shared memory] of each kernel of a variant."""
    return {label(variant, each): [each.registers, each.shared] for each in reports(variant, architecture)}


def main() -> None:
    with ProcessPoolExecutor() as pool:
        recorded = {}
        for architecture in ARCHITECTURES:
            found = pool.map(measured, [architecture] * len(VARIANTS), VARIANTS)
            recorded[architecture] = dict(sorted(pair for each in found for pair in each.items()))
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
