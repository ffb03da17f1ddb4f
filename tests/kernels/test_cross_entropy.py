"""The loss in one piece, in chunks, and written over its logits is one loss, with one gradient."""

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from primer.kernels.cross_entropy import (
    CHUNKS,
    FEW,
    cpu,
    held_at_once,
    in_chunks,
    linear_cross_entropy,
    reference,
)
from primer.nn.loss import cross_entropy

CASES: dict[str, dict[str, float]] = {
    "plain": {},
    "smoothed": {"label_smoothing": 0.1},
    "capped": {"soft_cap": 3.0},
    "all of it": {"label_smoothing": 0.2, "soft_cap": 2.0},
}


def drawn(n: int, V: int, C: int, bias: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Positions, a head's matrix, targets and perhaps a bias, in float64."""
    generator = torch.Generator().manual_seed(0)
    h, weight, b = (
        torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((n, C), (V, C), (V,))
    )
    return h, weight, torch.randint(V, (n,), generator=generator), b if bias else None


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bias", [False, True])
def test_the_reference_is_torchs(case: str, bias: bool) -> None:
    h, weight, targets, b = drawn(10, 13, 6, bias)
    logits = F.linear(h, weight, b)
    if cap := CASES[case].get("soft_cap"):
        logits = cap * torch.tanh(logits / cap)
    expected = cross_entropy(logits, targets, label_smoothing=CASES[case].get("label_smoothing", 0.0))
    found = reference.linear_cross_entropy(h, weight, targets, bias=b, **CASES[case])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 40, 100, 10**6], ids=lambda size: f"{size} logits at once")
def test_in_chunks_it_is_autograds(case: str, bias: bool, chunk: int) -> None:
    h, weight, targets, b = drawn(10, 13, 6, bias)
    expected = reference.linear_cross_entropy(h, weight, targets, bias=b, **CASES[case])
    found = cpu.linear_cross_entropy(h, weight, targets, bias=b, **CASES[case], chunk=chunk)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    leaves = [each for each in (h, weight, b) if each is not None]
    for mine, theirs in zip(
        torch.autograd.grad(0.3 * found, leaves), torch.autograd.grad(0.3 * expected, leaves), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        again = cpu.linear_cross_entropy(h, weight, targets, bias=b, **CASES[case], chunk=chunk)
    assert float(again) == float(found.detach())


@pytest.mark.parametrize("implementation", ["reference", "cpu"])
def test_logits_that_overflow_an_exponential_do_not(implementation: Any) -> None:
    h = torch.tensor([[200.0]])
    weight = torch.tensor([[1.0], [0.5], [-1.0]], requires_grad=True)
    found = linear_cross_entropy(h, weight, torch.tensor([1]), implementation=implementation)
    found.backward()
    assert found.item() == pytest.approx(100.0)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.tensor([[200.0], [-200.0], [0.0]]))


def test_its_gradients_are_given_away_once() -> None:
    h, weight = torch.randn(3, 2, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    found = linear_cross_entropy(h, weight, torch.tensor([0, 1, 2]), implementation="cpu")
    found.backward(retain_graph=True)
    with pytest.raises(AttributeError, match="gradients"):
        found.backward()


def test_few_logits_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    h = torch.randn(4, 2)
    assert in_chunks(FEW["cpu"] + 1, h)
    assert not in_chunks(FEW["cpu"], h)
    assert not in_chunks(FEW["cpu"] + 1, h.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not in_chunks(FEW["cpu"] + 1, h)
    assert held_at_once("cpu", narrow=False) == CHUNKS["cpu"]
    assert held_at_once("cpu", narrow=True) is None
    assert held_at_once("cpu", narrow=False, compiled=True) is None
    assert held_at_once("cuda", narrow=True, compiled=True) == held_at_once("cuda", narrow=True)
    assert held_at_once("mps", narrow=False) is None


needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


def overwritten(
    z: Tensor, targets: Tensor, b: Tensor | None, case: dict[str, float], gradient: bool = True
) -> Tensor:
    """What the kernel says and does, on a GPU or, without one, in Triton's interpreter (see conftest.py)."""
    from primer.kernels.cross_entropy import gpu

    return gpu.losses_over_logits(z, targets, b, **case, gradient=gradient)


@needs_triton
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("V", [1, 13, 64, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_kernel_is_autograds(
    case: str, bias: bool, V: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    from primer.kernels.cross_entropy import gpu

    monkeypatch.setattr(gpu, "BLOCK", 64)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    h, weight, targets, b = drawn(5, V, 6, bias)
    z = (
        (2 * h @ weight.t()).detach().to(dtype)
    )  # what the kernel gets; the truth starts from the same numbers
    leaf = z.double().requires_grad_()
    logits = leaf if b is None else leaf + b.detach()
    if cap := CASES[case].get("soft_cap"):
        logits = cap * torch.tanh(logits / cap)
    smoothing = CASES[case].get("label_smoothing", 0.0)
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    (slope,) = torch.autograd.grad(expected.sum(), leaf)

    z, on = z.to(device), targets.to(device)
    shift = None if b is None else b.detach().float().to(device)
    kept = z.clone()
    losses = overwritten(z, on, shift, CASES[case], gradient=False)
    torch.testing.assert_close(losses.cpu().double(), expected.detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(z, kept)
    again = overwritten(z, on, shift, CASES[case])
    assert torch.equal(again, losses)
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(z.cpu().double(), slope, rtol=rounding, atol=max(1e-6, rounding / 100))


@needs_triton
def test_the_kernel_bears_large_logits() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    z = torch.tensor([[200.0, 100.0, -200.0], [-300.0, -301.0, -1e30]], device=device)
    losses = overwritten(z, torch.tensor([1, 0], device=device), None, {})
    assert losses.tolist() == pytest.approx([100.0, 0.31326], abs=1e-4)
    assert z[0].tolist() == pytest.approx([1.0, -1.0, 0.0], abs=1e-6)


@needs_triton
@pytest.mark.parametrize("target", [-100, -1, 3, 10**6])
def test_the_kernel_makes_no_number_of_a_target_that_is_none(target: int) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    z = torch.randn(2, 3, device=device)
    losses = overwritten(z, torch.tensor([target, 1], device=device), None, {})
    assert losses.isnan().tolist() == [True, False]


def on_a_cpu(
    a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None, out: Tensor | None = None
) -> Tensor:
    """torch.mm with the sums in another dtype than the factors, which torch has on a GPU only."""
    product = a.to(out_dtype or a.dtype) @ b.to(out_dtype or b.dtype)
    return product if out is None else out.copy_(product)


PIECES = [
    pytest.param(
        case,
        bias,
        n,
        chunk,
        id=f"{n} positions, {chunk} logits at once-{bias}-{case}",
        marks=[pytest.mark.slow] if n == 300 and (case, bias) != ("all of it", True) else [],
    )
    for n, chunk in ((130, 1), (130, 10**6), (300, 200 * 13))
    for bias in (False, True)
    for case in CASES
]
"""128 positions and 2, all at once, and 256 and 44: the interpreter takes seconds for so many."""


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="tests/contracts/test_gpu.py has the operator itself")
@pytest.mark.parametrize(("case", "bias", "n", "chunk"), PIECES)
def test_in_pieces_the_operator_is_the_reference(
    case: str, bias: bool, n: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions in pieces of whole tiles, the last one short: every row once, in the loss and in each gradient."""
    from primer.kernels.cross_entropy import gpu

    monkeypatch.setattr(torch, "mm", on_a_cpu)
    monkeypatch.setattr(gpu, "BLOCK", 16)
    h, weight, targets, b = drawn(n, 13, 6, bias)
    truth = reference.linear_cross_entropy(h, weight, targets, bias=b, **CASES[case])
    leaves = [each for each in (h, weight, b) if each is not None]
    small = [leaf.detach().float().requires_grad_() for leaf in leaves]
    found = gpu.linear_cross_entropy(
        small[0], small[1], targets, bias=small[2] if bias else None, **CASES[case], chunk=chunk
    )
    torch.testing.assert_close(found.double(), truth, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(
        torch.autograd.grad(0.3 * found, small), torch.autograd.grad(0.3 * truth, leaves), strict=True
    ):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        again = gpu.linear_cross_entropy(
            small[0], small[1], targets, bias=small[2] if bias else None, **CASES[case], chunk=chunk
        )
    assert float(again) == float(found.detach())


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernel is not interpreted here")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("gradient", [False, True])
def test_a_compiler_is_told_the_true_shapes(
    bias: bool, gradient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    from primer.kernels.cross_entropy import gpu

    assert gpu  # the operator is known from here on

    def results() -> list[Any]:
        h, weight = torch.zeros(5, 6), torch.zeros(13, 6)
        b = torch.zeros(13) if bias else None
        given = (h, weight, b, gradient, torch.zeros(5, dtype=torch.long), 0.0, 0.0, 100)
        return [(x.shape, x.dtype) for x in torch.ops.primer.linear_cross_entropy(*given)]

    monkeypatch.setattr(torch, "mm", on_a_cpu)
    with FakeTensorMode():
        told = results()
    assert told == results()
