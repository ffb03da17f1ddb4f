"""Every implementation against equation 1, forward and backward, in float64 and with all options."""

import itertools
import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from primer.errors import UsageError
from primer.kernels import attention as rooms
from primer.kernels.attention import attention, reference
from primer.kernels.attention.checks import check

NAMES = ["reference", "tiled", "library", "cpu"]
"""Those that a CPU runs in float64; the kernels of a GPU have tests of their own."""

SHAPES = [(7, 7, 2, 2), (5, 9, 4, 2), (1, 6, 4, 1), (70, 70, 2, 1)]  # T, S, heads, key heads


def heads(T: int, S: int, H: int, Hkv: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(T * S * H)
    sizes = [(2, H, T, 8), (2, Hkv, S, 8), (2, Hkv, S, 8)]
    return [torch.randn(size, dtype=dtype, requires_grad=True) for size in sizes]


def some_hidden(S: int) -> Tensor:
    """Which of S positions hold a token: all in the first row; in the second neither two in the middle nor the last."""
    seen = torch.ones(2, S, dtype=torch.bool)
    seen[1, 2:4] = seen[1, S - 1] = False
    return seen


def by_hand(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, seen: Tensor | None) -> Tensor:
    """One query at a time, in Python."""
    (B, H, T, _), S = q.shape, k.shape[2]
    group = H // k.shape[1]
    out = torch.empty_like(q)
    for b, h, t in itertools.product(range(B), range(H), range(T)):
        last = t + S - T + 1 if causal else S
        there = slice(None) if seen is None else seen[b, :last]
        keys, values = k[b, h // group, :last][there], v[b, h // group, :last][there]
        weights = torch.tensor([math.exp(float(q[b, h, t] @ key) * scale) for key in keys], dtype=q.dtype)
        out[b, h, t] = (weights / weights.sum()) @ values
    return out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("hidden", [False, True])
def test_is_the_equation(name: str, shape: tuple[int, int, int, int], causal: bool, hidden: bool) -> None:
    q, k, v = heads(*shape)
    with torch.no_grad():
        seen = some_hidden(k.shape[2]) if hidden else None
        expected = by_hand(q, k, v, causal, 0.3, seen)
    found = attention(q, k, v, causal=causal, softmax_scale=0.3, seen=seen, implementation=name)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("hidden", [False, True])
def test_gradients_are_the_references(name: str, shape: tuple[int, int, int, int], hidden: bool) -> None:
    q, k, v = heads(*shape)
    d_out = torch.randn_like(q)
    seen = some_hidden(k.shape[2]) if hidden else None
    wanted, found = (
        torch.autograd.grad(attention(q, k, v, seen=seen, implementation=each), (q, k, v), d_out)  # type: ignore[arg-type]
        for each in ("reference", name)
    )
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_no_query_sees_a_later_key() -> None:
    q, k, v = heads(6, 6, 2, 2)
    for name in NAMES:
        before = attention(q, k, v, implementation=name)  # type: ignore[arg-type]
        changed = v.detach().clone()
        changed[:, :, 4:] += 100
        after = attention(q, k, changed, implementation=name)  # type: ignore[arg-type]
        assert torch.equal(before[:, :, :4], after[:, :, :4]), name
        assert not torch.allclose(before[:, :, 4:], after[:, :, 4:]), name


@pytest.mark.parametrize("name", ["library", "cpu"])
def test_autocast_reaches_queries_of_any_dtype(name: str) -> None:
    """Forwards and backwards in its dtype; gradients come back in the queries' own."""
    q, k, v = heads(6, 6, 2, 2, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(q, k, v, implementation=name)  # type: ignore[arg-type]
    assert out.dtype == torch.bfloat16
    grads = torch.autograd.grad(out.sum(), (q, k, v))
    truth = torch.autograd.grad(attention(q, k, v, implementation="reference").sum(), (q, k, v))
    for mine, true in zip(grads, truth, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, true, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("length", [30, 150])
@pytest.mark.parametrize("options", [{}, {"soft_cap": 2.0}, {"window": 9}])
def test_auto_gives_lse_whatever_the_size(length: int, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, length, 8) for _ in range(3))
    _, lse = attention(q, k, v, return_lse=True, **options)
    torch.testing.assert_close(lse, reference.attention(q, k, v, **options)[1])


def test_lse_is_float32_whatever_the_dtype() -> None:
    q = torch.randn(1, 2, 20, 8, dtype=torch.bfloat16)
    for name in ("reference", "tiled", "cpu"):
        assert attention(q, q, q, return_lse=True, implementation=name)[1].dtype == torch.float32, name


def test_autocast_leaves_float64_alone() -> None:
    q = torch.randn(1, 2, 20, 8, dtype=torch.float64)
    for length, name in ((20, "auto"), (100, "auto"), (20, "tiled"), (20, "cpu"), (20, "reference")):
        x = q.repeat(1, 1, length // 20, 1)
        with torch.autocast("cpu", torch.bfloat16):
            assert attention(x, x, x, implementation=name).dtype == torch.float64, name


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("seen", torch.ones(1, 5, dtype=torch.long), "seen is torch.int64"),
        ("document_ids", torch.ones(1, 5), "document_ids are torch.float32"),
        ("softmax_scale", 0.0, "softmax_scale is 0.0"),
        ("softmax_scale", -1.0, "softmax_scale is -1.0"),
        ("softmax_scale", math.nan, "softmax_scale is nan"),
        ("soft_cap", math.inf, "soft_cap is inf"),
        ("window", 2.5, "window is 2.5"),
        ("window", True, "window is True"),
        ("dropout_seed", 1.5, "dropout_seed is 1.5"),
    ],
    ids=str,
)
def test_bad_arguments_are_errors_that_name_them(argument: str, value: Any, said: str) -> None:
    """Before a kernel computes something with them, or says so in words of its own."""
    q, right = (
        torch.randn(1, 2, 5, 8),
        {"window": None, "document_ids": None, "seen": None, "softmax_scale": None},
    )
    with pytest.raises(UsageError, match=re.escape(said)):
        check(q, q, q, **{**right, "soft_cap": 0.0, "dropout": 0.0, "dropout_seed": None, argument: value})


def test_a_dtype_that_is_no_float_of_torchs_is_an_error() -> None:
    q = torch.zeros(1, 2, 5, 8).to(torch.float8_e4m3fn)
    with pytest.raises(UsageError, match=r"q is torch\.float8_e4m3fn"):
        attention(q, q, q)


def test_many_short_documents_are_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a few long ones are tiles; padding leaves out nothing unless something else does."""
    asked: list[str] = []
    for name in ("cpu", "library"):
        operator = rooms.IMPLEMENTATIONS[name]
        monkeypatch.setitem(
            rooms.IMPLEMENTATIONS,
            name,
            lambda *x, name=name, operator=operator, **how: asked.append(name) or operator(*x, **how),
        )
    q, position = torch.randn(1, 2, 600, 8), torch.arange(600)[None]
    for ids, expected in ((position // 200, "cpu"), (position // 10, "library")):
        found = attention(q, q, q, document_ids=ids)
        assert asked.pop() == expected
        wanted, _ = reference.attention(q, q, q, document_ids=ids)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    for causal, expected in ((True, "cpu"), (False, "library")):
        attention(q, q, q, seen=position < 400, causal=causal)
        assert asked.pop() == expected
