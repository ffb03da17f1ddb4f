import subprocess
import sys

import pytest
import torch

from primer import device as devices
from primer.device import Check, autocast_dtype, choose, describe, self_check, set_threads
from primer.errors import SurroundingsError, UsageError

CPU = torch.device("cpu")


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, primer.device; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_auto_takes_the_best_that_is_here(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose("auto").type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose("auto") == choose("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_absent_is_refused_with_a_hint(name: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SurroundingsError, match=f"{name} is not available here") as caught:
        choose(name)
    assert caught.value.hint == "--train.device=cpu"
    assert caught.value.exit_code == 3


def test_an_unknown_device_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="unknown device"):
        choose("gpu")


def test_threads_are_set_and_reported() -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == torch.get_num_threads() == 1
        assert set_threads(0) == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("device", "capability", "precision", "expected"),
    [
        ("cpu", None, "auto", None),
        ("cpu", None, "fp32", None),
        ("cpu", None, "bf16", torch.bfloat16),
        ("cpu", None, "fp16", SurroundingsError),
        ("mps", None, "auto", None),
        ("mps", None, "fp16", SurroundingsError),
        ("cuda", (9, 0), "auto", torch.bfloat16),
        ("cuda", (8, 0), "auto", torch.bfloat16),
        ("cuda", (7, 5), "auto", None),
        ("cuda", (7, 5), "bf16", SurroundingsError),
        ("cuda", (7, 5), "fp16", torch.float16),
        ("cuda", (9, 0), "fp32", None),
        ("cpu", None, "fp8", UsageError),
    ],
)
def test_the_policy_of_precision(device, capability, precision, expected, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "T4")
    if isinstance(expected, type):
        with pytest.raises(expected):
            autocast_dtype(torch.device(device), precision)
    else:
        assert autocast_dtype(torch.device(device), precision) is expected


def test_rates_count_the_work_that_was_timed(monkeypatch) -> None:
    monkeypatch.setattr(devices, "_best", lambda work, device, at_least: 0.5)
    assert devices.matmul_rate(CPU) == 2 * 1024**3 / 0.5
    assert devices.memory_bandwidth(CPU) == 2 * 2**27 / 0.5


def test_peak_memory_sees_a_large_tensor() -> None:
    before = devices.peak_memory(CPU)
    held = torch.ones(max(before // 4, 1 << 24) + (1 << 23))
    assert devices.peak_memory(CPU) >= held.nbytes


def test_what_is_remembered_about_the_machine() -> None:
    about = describe(CPU)
    assert about["torch"] == torch.__version__
    assert about["threads"] == torch.get_num_threads()
    assert about["cores"] >= 1
    assert about["name"]


def test_this_cpu_computes_rightly() -> None:
    checks = self_check(CPU)
    assert len(checks) == 8
    assert all(check.ok for check in checks), checks
    assert all(check.allowed < 1e-4 for check in checks), checks


def test_a_wrong_kernel_is_caught(monkeypatch) -> None:
    right = torch.softmax

    def wrong(x: torch.Tensor, dim: int) -> torch.Tensor:
        return right(x, dim) + (1e-4 if x.dtype == torch.float32 and x.device.type == "cpu" else 0)

    fine = {check.name for check in self_check(CPU) if check.ok}
    assert "softmax" in fine
    calls = iter([right, right, wrong])  # the truth, float32 on the CPU, and the device under test
    monkeypatch.setattr(torch, "softmax", lambda x, dim: next(calls)(x, dim))
    assert [check.name for check in self_check(CPU) if not check.ok] == ["softmax"]


def test_a_view_that_is_not_updated_is_caught(monkeypatch) -> None:
    right = torch.Tensor.addcmul_
    calls = iter([right, right, lambda view, *_, **__: view])
    monkeypatch.setattr(torch.Tensor, "addcmul_", lambda view, *a, **k: next(calls)(view, *a, **k))
    assert [check.name for check in self_check(CPU) if not check.ok] == ["in-place update of a view"]


def test_not_a_number_is_never_right() -> None:
    assert not Check("x", float("nan"), 1.0).ok


@pytest.mark.gpu
def test_this_gpu_computes_rightly() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    checks = self_check(torch.device("cuda"))
    assert all(check.ok for check in checks), checks


def test_measuring_does_not_move_the_generator_of_training() -> None:
    before = torch.get_rng_state()
    devices.matmul_rate(CPU)
    devices.memory_bandwidth(CPU)
    self_check(CPU)
    assert torch.equal(torch.get_rng_state(), before)
