"""Attention in tiles is equation 1, its gradient too; and the trace of the tiles is what happened."""

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from primer.errors import UsageError
from primer.kernels.attention import reference, tiled
from primer.kernels.attention.tiles import Tile, naive_bytes
from primer.kernels.attention.visible import spans, visible_mask
from primer.kernels.random import kept_at

SIZES: dict[str, dict[str, int]] = {
    "grouped": {"Hkv": 2},
    "cached": {"T": 6},
    "wide values": {"Dv": 9},
}
"""Features that are sizes, of 2 rows, 4 heads, 13 queries and keys of 8 numbers."""

OPTIONS: dict[str, dict[str, Any]] = {
    "full": {"causal": False},
    "window": {"window": 4},
    "documents": {"document_ids": torch.tensor([[0] * 5 + [1] * 8, [3] * 2 + [1] * 9 + [3] * 2])},
    "padding": {
        "seen": torch.tensor(
            [[True] * 6 + [False] * 3 + [True] * 4, [False] * 2 + [True] * 4 + [False] * 5 + [True] * 2]
        )
    },
    "scale": {"softmax_scale": 0.7},
    "soft cap": {"soft_cap": 1.5},
    "dropout": {"dropout": 0.3, "dropout_seed": 7},
}
FEATURES = (*SIZES, *OPTIONS)
COMBINATIONS = [each for n in range(3) for each in itertools.combinations(FEATURES, n)]


def heads(
    T: int = 13,
    S: int = 13,
    H: int = 4,
    Hkv: int = 4,
    D: int = 8,
    Dv: int = 8,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    torch.manual_seed(T * S * H + Dv)
    sizes = [(2, H, T, D), (2, Hkv, S, D), (2, Hkv, S, Dv)]
    return [torch.randn(size, dtype=torch.float64).to(dtype).requires_grad_() for size in sizes]


def set_up(features: tuple[str, ...]) -> tuple[list[Tensor], dict[str, Any]]:
    sizes, options = {}, {}
    for name in features:
        sizes |= SIZES.get(name, {})
        options |= OPTIONS.get(name, {})
    return heads(**sizes), options


def same(inputs: list[Tensor], options: dict[str, Any], block_q: int, block_k: int) -> None:
    """Output, L and all gradients are the reference's, and finite."""
    found, lse = tiled.attention(*inputs, **options, block_q=block_q, block_k=block_k)
    wanted, true_lse = reference.attention(*inputs, **options)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(lse, true_lse, rtol=1e-10, atol=1e-12)
    d_out = torch.randn_like(wanted)
    mine, theirs = (torch.autograd.grad(out, inputs, d_out) for out in (found, wanted))
    for name, gradient, truth in zip("qkv", mine, theirs, strict=True):
        assert bool(torch.isfinite(gradient).all())
        torch.testing.assert_close(
            gradient, truth, rtol=1e-10, atol=1e-12, msg=lambda text, n=name: f"d{n}: {text}"
        )


@pytest.mark.parametrize("features", COMBINATIONS, ids=" & ".join)
def test_each_feature_and_every_two_of_them(features: tuple[str, ...]) -> None:
    inputs, options = set_up(features)
    for block_q, block_k in ((4, 3), (5, 13)):
        same(inputs, options, block_q, block_k)


@pytest.mark.parametrize("blocks", [(1, 1), (1, 5), (6, 1), (13, 13), (128, 128), (2, 64)])
def test_tiles_of_any_size(blocks: tuple[int, int]) -> None:
    for features in ((), ("cached", "documents", "dropout"), ("padding", "soft cap", "grouped")):
        inputs, options = set_up(features)
        same(inputs, options, *blocks)


@st.composite
def tasks(draw: st.DrawFn) -> tuple[list[Tensor], dict[str, Any], int, int]:
    """Any sizes and any features at once."""
    size = st.integers(1, 12)
    S, groups, Hkv = draw(size), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    causal, documents = draw(st.booleans()), draw(st.booleans())
    T = draw(st.integers(1, S if causal or documents else 14))
    options: dict[str, Any] = {
        "causal": causal,
        "window": draw(st.none() | st.integers(1, 14)),
        "softmax_scale": draw(st.none() | st.sampled_from([0.3, -1.0, 4.0])),
        "soft_cap": draw(st.sampled_from([0.0, 0.5, 20.0])),
        "dropout": draw(st.sampled_from([0.0, 0.1, 0.9])),
        "dropout_seed": draw(st.integers(0, 2**31)),
    }
    row = st.lists(st.integers(0, 2), min_size=S, max_size=S)
    if documents:
        options["document_ids"] = torch.tensor([sorted(draw(row)), draw(row)])
    if draw(st.booleans()):
        options["seen"] = torch.tensor([draw(row), draw(row)]) > 0
    inputs = heads(T, S, groups * Hkv, Hkv, draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    return inputs, options, draw(size), draw(size)


@given(tasks())
@settings(max_examples=60, deadline=None)
def test_any_sizes_with_any_features(task: tuple[list[Tensor], dict[str, Any], int, int]) -> None:
    same(*task)


def test_more_queries_than_keys() -> None:
    """Some then stand before the first key, and causality leaves them nothing."""
    for causal in (True, False):
        same(heads(T=17, S=5), {"causal": causal}, 4, 2)
    out, lse = tiled.attention(*heads(T=17, S=5), block_q=4, block_k=2)
    assert out[:, :, :12].abs().max() == 0
    assert bool((lse[:, :, :12] == -torch.inf).all())
    assert out[:, :, 12:].abs().min() > 0


def test_no_keys_and_no_queries() -> None:
    for T, S in ((3, 0), (0, 3), (0, 0)):
        inputs = heads(T, S)
        out, lse = tiled.attention(*inputs)
        assert out.abs().sum() == 0
        assert bool((lse == -torch.inf).all())
        for gradient in torch.autograd.grad(out.sum(), inputs):
            assert gradient.abs().sum() == 0


def test_large_scores_do_not_overflow() -> None:
    """Of hundreds, ascending and descending: exp of them is no number of float32, and the maximum moves a lot."""
    q, k, v = (x.detach() for x in heads(dtype=torch.float32))
    for sign in (1, -1):
        k[:, :, :, 0], q[:, :, :, 0] = sign * torch.arange(13.0) * 100, 10.0
        found, lse = tiled.attention(q, k, v, causal=False, block_q=4, block_k=2)
        wanted, true_lse = reference.attention(q.double(), k.double(), v.double(), causal=False)
        assert reference.attention_scores(q, k, causal=False).abs().max() > 3000
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(lse.double(), true_lse, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("features", [(), ("soft cap", "dropout", "grouped"), ("padding", "window")])
def test_no_dtype_loses_more_than_the_reference(dtype: torch.dtype, features: tuple[str, ...]) -> None:
    """Errors against float64, of the same rounded inputs, at most twice those of plain PyTorch in that dtype."""
    exact, options = set_up(features)
    inputs = [x.detach().to(dtype).requires_grad_() for x in exact]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    d_out = torch.randn_like(exact[0])

    def results(which: Any, of: list[Tensor], **more: int) -> list[Tensor]:
        out, _ = which.attention(*of, **options, **more)
        assert out.dtype == of[0].dtype
        return [out.detach(), *torch.autograd.grad(out, of, d_out.to(out.dtype))]

    truth = results(reference, exact)
    mine, plain = results(tiled, inputs, block_q=4, block_k=5), results(reference, inputs)
    for found, usual, true in zip(mine, plain, truth, strict=True):
        unit = torch.finfo(dtype).eps * float(true.abs().max())
        assert (found - true).abs().max() <= 2 * (usual - true).abs().max() + unit
    lse = tiled.attention(*inputs, **options)[1]
    assert lse.dtype == torch.float32
    assert not lse.requires_grad


def test_in_however_many_tiles_sums_are_rounded_once() -> None:
    """Sums of 32 tiles in bfloat16 would be off by several of its units."""
    inputs = heads(64, 64, dtype=torch.bfloat16)
    found = []
    for block in (64, 2):
        out, _ = tiled.attention(*inputs, causal=False, block_q=block, block_k=block)
        found.append([out.detach(), *torch.autograd.grad(out, inputs, inputs[2].detach())])
    for one, many in zip(*found, strict=True):
        torch.testing.assert_close(many, one, rtol=2**-7, atol=1e-5)


def test_autocast_chooses_the_dtype_of_what_comes_out_and_not_that_of_the_sums() -> None:
    inputs = heads(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out, lse = tiled.attention(*inputs, block_q=4, block_k=4)
        gradients = torch.autograd.grad(out, inputs, torch.ones_like(out))
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    rounded = [x.detach().bfloat16().requires_grad_() for x in inputs]
    alone, _ = tiled.attention(*rounded, block_q=4, block_k=4)
    assert torch.equal(out, alone)
    wanted = torch.autograd.grad(alone, rounded, torch.ones_like(out))
    for mine, theirs in zip(gradients, wanted, strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, theirs.float())


@pytest.mark.parametrize("dropout", [0.1, 0.25, 0.6])
def test_a_tile_draws_the_bits_of_its_place(dropout: float) -> None:
    whole = kept_at(11, 3, 10, 23, dropout)
    for queries, keys in itertools.product(
        (range(10), range(3, 8), range(9, 10)), (range(23), range(5, 6), range(6, 23))
    ):
        found = kept_at(11, 3, 10, 23, dropout, queries=queries, keys=keys)
        assert torch.equal(found, whole[:, queries.start : queries.stop, keys.start : keys.stop])


def test_a_tile_has_a_query_and_a_key() -> None:
    with pytest.raises(UsageError, match="one query and one key or more"):
        tiled.attention(*heads(), block_k=0)


# What is kept, and how much is there at once


class Sizes(TorchDispatchMode):
    """Hears how many numbers each operation writes."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, Tensor):
                self.largest = max(self.largest, each.numel())
        return out


def heard(into: list[Tensor], x: Tensor) -> Tensor:
    into.append(x)
    return x


def test_memory_grows_with_the_length_and_not_with_its_square() -> None:
    """Kept: Q, K, V, the output and L. Written at once: never more than one of these, or a tile."""
    for T in (64, 256):
        inputs = heads(T, T)
        kept: list[Tensor] = []
        options = {
            "dropout": 0.1,
            "soft_cap": 5.0,
            "seen": torch.ones(2, T, dtype=torch.bool),
            "window": T // 2,
        }
        listening = torch.autograd.graph.saved_tensors_hooks(partial(heard, kept), lambda x: x)
        with listening, Sizes() as forwards:
            out, lse = tiled.attention(*inputs, **options, block_q=16, block_k=16)
        assert [x.data_ptr() for x in kept] == [x.data_ptr() for x in (*inputs, out, lse)]
        node: Any = out.grad_fn
        assert set(vars(node)) == {"plan"}
        with Sizes() as backwards:
            torch.autograd.grad(out, inputs, torch.ones_like(out))
        sizes = (forwards.largest, backwards.largest)
        assert max(sizes) <= max(out.numel(), 2 * 4 * 16 * (16 + 4)), (
            "a tile of dropout's words may overlap one more"
        )
    with Sizes() as naive:
        reference.attention(*inputs)
    assert naive.largest == 2 * 4 * T * T > 16 * max(sizes)


# The trace


TRACED = [
    (),
    ("full",),
    ("window",),
    ("documents", "cached"),
    ("padding",),
    ("window", "documents"),
    ("soft cap", "dropout"),
]


def tiles_of(
    features: tuple[str, ...], block_q: int = 4, block_k: int = 3
) -> tuple[list[Tile], list[Tensor], dict[str, Any]]:
    inputs, options = set_up(features)
    return list(tiled.trace(*inputs, **options, block_q=block_q, block_k=block_k)), inputs, options


@pytest.mark.parametrize("features", TRACED, ids=" & ".join)
def test_tiles_are_the_table_and_their_kinds_are_the_masks(features: tuple[str, ...]) -> None:
    tiles, (q, k, _), options = tiles_of(features)
    T, S = q.shape[2], k.shape[2]
    visible = {name: options[name] for name in ("window", "document_ids") if name in options}
    mask = visible_mask(spans(T, S, causal=options.get("causal", True), **visible), S).expand(2, T, S)
    mask = mask & options.get("seen", torch.ones(2, S, dtype=torch.bool))[:, None]
    table = torch.zeros(T, S, dtype=torch.long)
    for tile in tiles:
        there = mask[:, tile.queries.start : tile.queries.stop, tile.keys.start : tile.keys.stop]
        wanted = "full" if there.all() else "masked" if there.any() else "skipped"
        assert tile.kind == wanted, tile
        table[tile.queries.start : tile.queries.stop, tile.keys.start : tile.keys.stop] += 1
    assert bool((table == 1).all()), "each pair is in one tile"
    assert len(tiles) == math.ceil(T / 4) * math.ceil(S / 3)
    assert [tile.last for tile in tiles] == [tile.keys.stop == S for tile in tiles]


@pytest.mark.parametrize("features", TRACED, ids=" & ".join)
def test_what_runs_along_is_the_softmax_of_the_keys_so_far(features: tuple[str, ...]) -> None:
    """After each tile: the maximum, sum of exponentials and weighted values of all keys up to it, and of no others."""
    tiles, (q, k, v), options = tiles_of(features)
    drop = {"dropout", "dropout_seed"}
    scores = reference.attention_scores(
        q, k, **{"causal": True} | {name: value for name, value in options.items() if name not in drop}
    ).detach()
    z = (
        kept_at(7, 8, 13, 13, 0.3).view(2, 4, 13, 13).double() / 0.7
        if "dropout" in features
        else torch.ones_like(scores)
    )
    before = None
    for tile in tiles:
        rows = slice(tile.queries.start, tile.queries.stop)
        if tile.keys.start:
            assert tile.before is before
        else:
            assert bool((tile.before.max == -torch.inf).all())
            assert tile.before.sum.abs().sum() + tile.before.out.abs().sum() == 0
        before = tile.after
        so_far = scores[:, :, rows, : tile.keys.stop]
        largest = so_far.amax(-1)
        weights = torch.exp(so_far - largest.masked_fill(largest == -torch.inf, 0)[..., None])
        torch.testing.assert_close(tile.after.max, largest, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(tile.after.sum, weights.sum(-1), rtol=1e-12, atol=1e-12)
        out = (weights * z[:, :, rows, : tile.keys.stop]) @ v[:, :, : tile.keys.stop].detach()
        torch.testing.assert_close(tile.after.out, out, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("features", TRACED, ids=" & ".join)
def test_the_trace_ends_with_the_output(features: tuple[str, ...]) -> None:
    tiles, inputs, options = tiles_of(features)
    out, lse = tiled.attention(*inputs, **options, block_q=4, block_k=3)
    ends = [tile.after.finished() for tile in tiles if tile.last]
    assert torch.equal(torch.cat([each for each, _ in ends], 2), out)
    assert torch.equal(torch.cat([each for _, each in ends], 2), lse)


def test_rescaling_factors_multiply_to_that_from_the_first_maximum_to_the_last() -> None:
    """Each is exp(m before − m after); what a query's first tile gave is multiplied by all that follow."""
    tiles, (q, k, _), _ = tiles_of(("full",))
    scores = reference.attention_scores(q, k, causal=False).detach()
    for queries, group in itertools.groupby(tiles, key=lambda tile: tile.queries):
        first, *others = group
        assert first.rescale.abs().max() == 0, "there was nothing yet"
        product = torch.stack([tile.rescale for tile in others]).prod(0)
        own = scores[:, :, queries.start : queries.stop]
        wanted = torch.exp(own[..., :3].amax(-1) - own.amax(-1))
        torch.testing.assert_close(product, wanted, rtol=1e-12, atol=1e-12)
        assert product.min() < 0.5
        assert product.max() == 1


def test_a_skipped_tile_changes_nothing_and_moves_nothing() -> None:
    tiles, _, _ = tiles_of(())
    moved = 0
    for tile in tiles:
        if tile.kind == "skipped":
            assert tile.before is tile.after
            assert bool((tile.rescale == 1).all())
            assert tile.moved == moved or tile.last
        moved = tile.moved
    assert sum(tile.kind == "skipped" for tile in tiles) == 6


def test_bytes_are_those_counted_by_hand() -> None:
    """4 queries and keys of 2 numbers of 4 bytes, values of 3, in tiles of 2 × 2."""
    q, k, v = torch.randn(1, 1, 4, 2), torch.randn(1, 1, 4, 2), torch.randn(1, 1, 4, 3)
    Q, K, V, O, L = (4 * n for n in (2 * 2, 2 * 2, 2 * 3, 2 * 3, 2))  # noqa: E741  # of a block
    tiles = list(tiled.trace(q, k, v, block_q=2, block_k=2))
    assert [tile.kind for tile in tiles] == ["masked", "skipped", "full", "masked"]
    first, second = Q + K + V, Q + K + V + O + L
    third = second + Q + K + V
    assert [tile.moved for tile in tiles] == [first, second, third, third + K + V + O + L]
    # read Q, K, write S, read S, write P, read P, V, write O
    assert naive_bytes(q, k, v) == 4 * (8 + 8 + 16 + 16 + 16 + 16 + 12 + 12)
    halves = [x.bfloat16() for x in (q, k, v)]
    *_, end = tiled.trace(*halves, block_q=2, block_k=2)
    assert end.moved == (tiles[-1].moved - 2 * L) // 2 + 2 * L, "L is float32"
    assert naive_bytes(*halves) == naive_bytes(q, k, v) // 2


def test_bytes_shrink_with_larger_tiles() -> None:
    """K and V are read once for each block of queries: the N²d² / M of Dao et al. 2022, theorem 2."""
    inputs = [torch.randn(1, 1, 256, 8) for _ in range(3)]
    moved = []
    for block in (8, 16, 32):
        *_, end = tiled.trace(*inputs, causal=False, block_q=block, block_k=16)
        fixed = 4 * 256 * (8 + 8 + 1)  # Q, O and L
        moved.append(end.moved - fixed)
    assert moved == [4 * 2 * 256 * 8 * (256 // block) for block in (8, 16, 32)]
