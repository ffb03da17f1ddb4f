"""What the doctor says is what was found, also where something is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from primer import assets, device
from primer.cli import doctor
from primer.cli.main import main


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured."""
    monkeypatch.setattr(device, "matmul_rate", lambda where, dtype=None: 3e12 if dtype else 2e11)
    monkeypatch.setattr(device, "memory_bandwidth", lambda where: 2.5e10)
    monkeypatch.setattr(device, "self_check", lambda where: [device.Check("softmax", 1e-7, 1e-6)])


def looked(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["doctor", "--device=cpu", "--threads=1", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_people_and_programs_are_told_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    found = looked(capsys)
    assert main(["doctor", "--device=cpu", "--threads=1"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["matmul"] == "200 GFLOP/s in float32"
    assert lines["memory"].endswith("copied at 25.0 GB/s")
    assert lines["threads"] == f"1 on {found['cores']} cores"
    assert lines["self-check"] == "all 1 operations agree with float64 on the CPU"
    assert lines["cache"] == found["cache"]
    for part in (found["primer"], found["torch"], found["python"]):
        assert part in lines["versions"]


def test_a_device_made_for_bf16_shows_both_rates(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(device, "autocast_dtype", lambda where, precision: torch.bfloat16)
    found = looked(capsys)
    assert (found["matmul_flops"], found["matmul_flops_bfloat16"], found["precision"]) == (
        2e11,
        3e12,
        "bfloat16",
    )
    said = doctor.in_lines(found)
    assert "200 GFLOP/s in float32, 3,000 GFLOP/s in bfloat16" in said


@pytest.mark.parametrize("error", [1e-5, float("nan"), float("inf")])
def test_what_is_wrong_is_named_and_has_a_code(
    error: float, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = [device.Check("matmul", 0.0, 1e-6), device.Check("softmax", error, 1e-6)]
    monkeypatch.setattr(device, "self_check", lambda where: checks)
    assert main(["doctor", "--device=cpu"]) == 3
    out, err = capsys.readouterr()
    assert f"softmax is off by {error:.1e}" in out
    assert "matmul is off" not in out
    assert err.startswith("error:  cpu computes wrongly: softmax\n")


def test_folders_that_are_wrong_are_told_in_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PRIMER_DATA", str(tmp_path / "absent"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(assets.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    found = looked(capsys)
    assert "PRIMER_DATA names no folder" in found["data"]
    assert "no cache folder can be written" in found["cache"]
    monkeypatch.setenv("PRIMER_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = looked(capsys)
    assert (found["data"], found["cache"]) == (str(tmp_path), str(tmp_path / "cache" / "primer"))
