"""The compile gate: what the compilers make of every attention kernel, for GPUs that need not be there.

It is held to Triton 3.6.0, and runs beside the rest of CI (`.ci/run`); elsewhere it is skipped.
"""

import json

import pytest

triton = pytest.importorskip("triton")

from golden.attention_assembly import RECORDED, label  # noqa: E402
from primer.kernels.attention.assembly import ARCHITECTURES, SHARED_MEMORY, VARIANTS, Report, Variant, reports  # noqa: E402

pytestmark = [
    pytest.mark.skipif(triton.__version__ != "3.6.0", reason="registers were recorded with Triton 3.6.0"),
    pytest.mark.skipif(triton.knobs.runtime.interpret, reason="the interpreter compiles nothing"),
]

WAITS = 0.35
"""Waits for each matrix instruction, at most; a serialised kernel has one for each."""

MATRIX = ("forward", "keys_backward", "queries_backward", "_part")
"""Kernels whose work is matrix products."""

SPILLED = {"hopper_backward.keys_backward": 200, "hopper.forward": 16}
"""Bytes that kernels spill, outside their products: two that fill a multiprocessor's registers (docs/decisions)."""

WARNED = {"hopper_backward.keys_backward": {"C7517"}}
"""What the assembler says of kernels: that it put in a wait of its own."""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_compiles_well(variant: Variant, architecture: str) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))[architecture]
    found = reports(variant, architecture)
    assert len(found) >= 4
    for each in found:
        complain(each, variant, architecture)
        assert [each.registers, each.shared] == recorded[label(variant, each)], each


def complain(found: Report, variant: Variant, architecture: str) -> None:
    assert found.spilled <= SPILLED.get(found.kernel, 0), found
    assert set(found.warnings) <= WARNED.get(found.kernel, set()), found
    assert found.shared <= SHARED_MEMORY[architecture], found
    if not found.kernel.endswith(MATRIX):
        return
    assert found.hgmma + found.hmma > 0, f"no tensor core works: {found}"
    half = "fp32" not in str(variant) and "decode" not in found.kernel
    if architecture == "sm_90a" and half:  # float32 and rows of 16 queries take the older instruction
        assert found.hgmma > 0, found
        assert found.waits <= WAITS * found.hgmma, found


def test_every_recorded_kernel_is_still_there() -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert set(recorded) == set(ARCHITECTURES)
    for architecture in ARCHITECTURES:
        kernels = {name.partition(":")[0] for name in recorded[architecture]}
        assert {"forward.forward", "backward.keys_backward", "decode._part"} <= kernels
    assert any(name.startswith("hopper.forward") for name in recorded["sm_90a"])
