"""The CPU's attention against equation 1: every pair of its features, written down and in tiles."""

import math
import subprocess
import sys
import time
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from primer.kernels import random
from primer.kernels.attention import cpu, reference
from primer.kernels.attention.cpu import long, plan, short, threads
from primer.kernels.attention.cpu.plan import Sight
from primer.kernels.attention.visible import spans, visible_mask
from primer.kernels.budget import errors
from primer.kernels.random import KeptTiles, Words, kept_at

FEATURES = ("window", "documents", "seen", "soft cap", "dropout", "groups", "tail", "full", "wide values")
"""grouped queries; fewer queries than keys; not causal; values of another width than keys."""
LONG, SHORT = 150, 30
"""Neither is a number of whole blocks."""


def a_case(features: tuple[str, ...], length: int = LONG, dtype: torch.dtype = torch.float64) -> Any:
    """Queries, keys and values with all these features, a gradient, and how attention is asked for them."""
    generator = torch.Generator().manual_seed(length + len(features))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    T, heads, width = length - length // 3 * ("tail" in features), 4, 12 if "wide values" in features else 8
    key_heads = 2 if "groups" in features else heads
    q, k, v = normal(2, heads, T, 8), normal(2, key_heads, length, 8), normal(2, key_heads, length, width)
    how: dict[str, Any] = {"causal": "full" not in features}
    if "window" in features:
        how["window"] = length // 5
    if "documents" in features:  # of many lengths, one and more than a block among them
        ends = torch.tensor(
            [[1, 12, length // 2, length], [length // 3, length // 3 + 1, length - 2, length]]
        )
        how["document_ids"] = torch.stack(
            [torch.bucketize(torch.arange(length), row, right=True) for row in ends]
        )
    if "seen" in features:  # holes, a padded end, and first queries that see nothing
        how["seen"] = torch.rand(2, length, generator=generator) < 0.8
        how["seen"][0, :3] = how["seen"][1, -length // 4 :] = False
    if "soft cap" in features:
        how["soft_cap"] = 1.5
    if "dropout" in features:
        how |= {"dropout": 0.3, "dropout_seed": 11}
    return (q, k, v), normal(2, heads, T, width), how


def results(operator: Any, tensors: Any, d_out: Tensor, how: dict[str, Any]) -> list[Tensor]:
    """out, lse, dq, dk, dv."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    out, lse = operator(*leaves, **how)
    assert not lse.requires_grad
    return [out.detach(), lse, *torch.autograd.grad(out, leaves, d_out.to(out.dtype))]


def assert_same(found: list[Tensor], wanted: list[Tensor]) -> None:
    for name, mine, theirs in zip(("out", "lse", "dq", "dk", "dv"), found, wanted, strict=True):
        torch.testing.assert_close(
            mine, theirs, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


SIZES = {name: getattr(cpu, name) for name in ("SMALL", "WRITTEN", "CUT_UP")}


@pytest.fixture(autouse=True)
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """`LONG` is long enough for tiles, of however few heads."""
    for name, size in {"SMALL": cpu.SHORT, "WRITTEN": 0, "CUT_UP": 0}.items():
        monkeypatch.setattr(cpu, name, size)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two of Python's threads for any work, and tiles of a few heads."""
    monkeypatch.setattr(long, "MANY", 0)
    monkeypatch.setattr(long, "TILE", 1 << 14)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


PAIRS = [(), *combinations(FEATURES, 1), *combinations(FEATURES, 2)]


@pytest.mark.parametrize("length", [SHORT, LONG])
@pytest.mark.parametrize("features", PAIRS, ids=" and ".join)
def test_every_pair_of_features_is_the_references(features: tuple[str, ...], length: int) -> None:
    case = a_case(features, length)
    assert_same(results(cpu.attention, *case), results(reference.attention, *case))


@pytest.mark.parametrize(
    "features", [("dropout",), ("window", "groups"), ("documents", "dropout"), FEATURES], ids=" and ".join
)
def test_two_threads_compute_the_same(features: tuple[str, ...], two_threads: None) -> None:
    case = a_case(features)
    assert_same(results(cpu.attention, *case), results(reference.attention, *case))


@pytest.mark.parametrize("features", PAIRS, ids=" and ".join)
def test_tiles_of_any_size(features: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that are smaller than windows and documents, and parts of one head."""
    monkeypatch.setattr(plan, "BLOCK", 8)
    monkeypatch.setattr(long, "TILE", 1)
    monkeypatch.setattr(cpu, "SMALL", 0)
    monkeypatch.setattr(cpu, "FEW_QUERIES", 0)
    case = a_case(features, 27)
    assert_same(results(cpu.attention, *case), results(reference.attention, *case))


@pytest.mark.parametrize("sizes", [(150, 40), (20, 9), (1, 40), (3, 5000), (40, 1), (70, 64)])
@pytest.mark.parametrize("causal", [True, False])
def test_more_queries_than_keys_and_many_fewer(sizes: tuple[int, int], causal: bool) -> None:
    """Of more queries than keys the first see nothing, if causal: zeros, −∞, and no gradient."""
    T, S = sizes
    torch.manual_seed(0)
    tensors = [torch.randn(2, 4, length, 8, dtype=torch.float64) for length in (T, S, S)]
    case = (
        tensors,
        torch.randn(2, 4, T, 8, dtype=torch.float64),
        {"causal": causal, "dropout": 0.1, "dropout_seed": 3},
    )
    found = results(cpu.attention, *case)
    assert_same(found, results(reference.attention, *case))
    if causal and T > S:
        assert not found[0][:, :, : T - S].any()
        assert bool((found[1][:, :, : T - S] == -torch.inf).all())
        assert not found[2][:, :, : T - S].any()


@pytest.mark.parametrize("length", [SHORT, LONG])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_that_see_nothing_are_zeros_forward_and_backward(length: int, dtype: torch.dtype) -> None:
    tensors, d_out, how = a_case(("seen", "dropout", "soft cap"), length, dtype)
    how["seen"][1] = False
    out, lse, *gradients = results(cpu.attention, tensors, d_out, how)
    assert not out[1].any()
    assert bool((lse[1] == -torch.inf).all())
    assert bool(torch.isfinite(lse[0, :, 10:]).all())
    for gradient in gradients:
        assert bool(torch.isfinite(gradient).all())
        assert not gradient[1].any()
        assert gradient[0].any()


@pytest.mark.parametrize(
    "features", [("seen",), ("dropout", "groups"), ("documents", "soft cap"), ("full",)], ids=" and ".join
)
@pytest.mark.parametrize("length", [SHORT, LONG])
def test_how_tensors_lie_in_memory_does_not_matter(features: tuple[str, ...], length: int) -> None:
    """Heads side by side, as a projection leaves them; every other number; a gradient that is one number, expanded."""
    tensors, d_out, how = a_case(features, length)
    wanted = results(reference.attention, tensors, torch.ones_like(d_out), how)
    by_position = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors]
    spread = [torch.stack([x, x + 1], -1)[..., 0] for x in tensors]
    one = torch.ones((), dtype=d_out.dtype).expand_as(d_out)
    for lying in (by_position, spread):
        assert_same(results(cpu.attention, lying, one, how), wanted)


@pytest.mark.parametrize(
    "features", [("dropout", "soft cap"), ("window", "groups"), ("documents", "seen")], ids=" and ".join
)
@pytest.mark.parametrize("length", [SHORT, LONG])
def test_no_memory_is_read_before_it_is_written(
    features: tuple[str, ...], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_case(features, length)
    wanted = results(cpu.attention, *case)
    new_empty, empty = Tensor.new_empty, np.empty

    def poisoned(x: Tensor, *shape: Any, **how: Any) -> Tensor:
        return new_empty(x, *shape, **how).fill_(torch.nan)

    monkeypatch.setattr(Tensor, "new_empty", poisoned)
    monkeypatch.setattr(
        random.np, "empty", lambda *shape, **how: (empty(*shape, **how) * 0 + 77).astype(how["dtype"])
    )
    for mine, theirs in zip(results(cpu.attention, *case), wanted, strict=True):
        assert torch.equal(mine, theirs)


# What dropout drops


@pytest.mark.parametrize("dropout", [0.001, 0.1, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("seed", [0, 2**31 - 1, 2**40 + 5])
def test_a_tile_of_the_mask_is_the_masks_own_bits(dropout: float, seed: int) -> None:
    """From any key on, and for any rows; and the memory for it is used again, for less and for more."""
    whole = kept_at(seed, 3, 50, 70, dropout)
    tiles, words = KeptTiles(seed, 3, 50, dropout), Words()
    for heads, queries, keys in product(
        [slice(0, 3), slice(1, 2)], [slice(0, 50), slice(7, 20)], [slice(5, 70), slice(66, 67), slice(8, 61)]
    ):
        rows, thresholds = tiles.rows[heads, queries], tiles.thresholds[heads, queries]
        out = torch.full((*rows.shape, keys.stop - keys.start), torch.nan)
        tiles.write(out, rows, thresholds, keys.start, words)
        assert torch.equal(out, whole[heads, queries, keys].float())


def test_a_threshold_is_rounded_by_the_same_comparison() -> None:
    """Where a row's word is next to the fraction that it is compared with, rounding of either would show."""
    row = random.mixed(7 + random.mixed(torch.arange(64)))
    for word in random.mixed(row - random.GOLDEN)[:8].tolist():
        for nearby in (word - 1, word, word + 1):
            dropout = (51 + nearby / 2**32) / 256
            tiles = KeptTiles(7, 1, 64, dropout)
            found = tiles.write(torch.empty(1, 64, 400), tiles.rows, tiles.thresholds, 0, Words())
            assert torch.equal(found.bool(), kept_at(7, 1, 64, 400, dropout))


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_attention_drops_exactly_these_weights_forward_and_backward(length: int) -> None:
    """With the identity for values, what comes out is the weights; with it for d_out, dV is what was replayed."""
    torch.manual_seed(0)
    q, k = (torch.randn(2, 3, length, 8, dtype=torch.float64) for _ in range(2))
    v = torch.eye(length, dtype=torch.float64).expand(2, 3, length, length).requires_grad_()
    out, _ = cpu.attention(q, k, v, dropout=0.4, dropout_seed=9)
    kept = kept_at(9, 6, length, length, 0.4).view_as(out) & visible_mask(
        spans(length, length, causal=True), length
    )
    assert torch.equal(out != 0, kept)
    (dv,) = torch.autograd.grad(out, v, torch.eye(length, dtype=torch.float64).expand_as(out))
    assert torch.equal(dv.transpose(2, 3) != 0, kept)


# Numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "features",
    [("wide values",), ("dropout",), ("window", "groups"), ("documents", "soft cap"), ("full", "tail")],
    ids=" and ".join,
)
@pytest.mark.parametrize("length", [SHORT, LONG])
def test_errors_are_at_most_twice_plain_torchs(
    length: int, features: tuple[str, ...], dtype: torch.dtype
) -> None:
    (q, k, v), d_out, how = a_case(features, length, dtype)
    for name, error in errors(cpu.attention, q, k, v, d_out, **how).items():
        assert error.ok, (name, error)


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_autocast_casts_what_comes_in_and_nothing_else(length: int) -> None:
    """Also where gradients are asked for inside of it: weights stay float32."""
    tensors, d_out, how = a_case(("dropout", "groups"), length, torch.float32)
    wanted = results(cpu.attention, [x.bfloat16() for x in tensors], d_out, how)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(cpu.attention, tensors, d_out, how)
    assert [x.dtype for x in found] == [torch.bfloat16, *[torch.float32] * 4]
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.equal(mine, theirs.to(mine.dtype))


def test_keys_before_a_window_are_not_looked_at() -> None:
    """One query, or a few, behind many keys: as fast as the window, and blind for what lies before it."""
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 4, 3, 8), *(torch.randn(1, 2, 500, 8) for _ in range(2))
    expected, _ = reference.attention(q, k, v, window=20)
    k[:, :, :478] = v[:, :, :478] = torch.nan
    found, _ = cpu.attention(q, k, v, window=20)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


# What is computed, and what is kept


@pytest.mark.parametrize("causal", [True, False])
def test_tiles_cover_what_is_visible_once_and_hide_the_rest(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All small sizes and windows, by blocks of queries and of keys."""
    monkeypatch.setattr(plan, "BLOCK", 3)
    for T, S, window, by_keys in product(range(1, 9), range(1, 9), (None, 1, 2, 4), (False, True)):
        sight = Sight.of(T, S, causal, window)
        table = torch.full((T, S), -torch.inf)
        largest = sight.largest(by_keys=by_keys)
        for queries, keys in sight.blocks(by_keys=by_keys):
            tile = torch.zeros(1, 1, queries.stop - queries.start, keys.stop - keys.start)
            assert tile.shape[2] <= largest[0]
            assert tile.shape[3] <= largest[1]
            if tile.numel():
                sight.hide(tile, queries.start, keys.start)
                assert bool((table[queries, keys] == -torch.inf).all()), "some pair is in two tiles"
                table[queries, keys] = tile[0, 0]
        seen = visible_mask(spans(T, S, causal=causal, window=window), S)[0]
        assert torch.equal(table == 0, seen), (T, S, window, by_keys)
        assert torch.equal(table == -torch.inf, ~seen)


def test_few_weights_are_computed_for_a_window_and_for_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    scores = long.Part.scores

    def counted(*arguments: Any) -> Any:
        found = scores(*arguments)
        computed.append(found[0].numel())
        return found

    monkeypatch.setattr(long.Part, "scores", counted)
    T = 1024
    q, k, v = (torch.randn(1, 2, T, 8, requires_grad=True) for _ in range(3))
    ids = (torch.arange(T) // (T // 8))[None]
    for how, share in (({"window": T // 8}, (128 + 64) / T), ({"document_ids": ids}, (64 + 128) / 2 / T)):
        out, _ = cpu.attention(q, k, v, **how)  # type: ignore[arg-type]
        out.sum().backward()
        assert sum(computed) <= 2 * share * 2 * T * T, how  # forward and backward, two heads
        computed.clear()


@pytest.mark.parametrize(
    "features", [("dropout",), ("window",), ("documents", "soft cap"), ("seen", "dropout")], ids=" and ".join
)
def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_square(features: tuple[str, ...]) -> None:
    tensors, _, how = a_case(features, 600, torch.float32)
    leaves, kept = [x.requires_grad_() for x in tensors], []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out, lse = cpu.attention(*leaves, **how)
    others = [x for x in vars(out.grad_fn).values() if isinstance(x, Tensor)]
    inputs = [x for x in (*tensors, out, lse, how.get("seen"), how.get("document_ids")) if x is not None]
    assert sum(x.numel() for x in kept + others) <= sum(x.numel() for x in inputs) + 1  # and a seed
    assert sum(x.numel() for x in kept) > 0


def test_what_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tables, few weights in all, few queries; and rows of middling length that are cut into many documents."""
    assert SIZES == {"SMALL": 96 * 96, "WRITTEN": 1 << 20, "CUT_UP": 256 * 256}
    taken: list[str] = []
    for room, name in ((short, "attend"), (long, "attend")):
        run = getattr(room, name)

        def noted(*given: Any, room: Any = room, run: Any = run, **how: Any) -> Any:
            taken.append(room.__name__.rpartition(".")[2])
            return run(*given, **how)

        monkeypatch.setattr(room, name, noted)
    for name, size in SIZES.items():
        monkeypatch.setattr(cpu, name, size)

    def way(B: int, T: int, S: int, documents: int = 0) -> str:
        q, k, v = (torch.randn(B, 4, length, 8) for length in (T, S, S))
        ids = (torch.arange(S) * documents // S).expand(B, S) if documents else None
        cpu.attention(q, k, v, document_ids=ids, dropout=0.1, return_lse=False)
        return taken.pop()

    assert way(2, 300, 300) == "short"  # 2 · 4 · 300² < 2²⁰
    assert way(3, 300, 300) == "long"
    assert way(60, 96, 96) == "short"
    assert way(60, 97, 97) == "long"
    assert way(60, 16, 600) == "short"
    assert way(30, 17, 600) == "long"
    assert way(8, 200, 200, documents=2) == "long"  # 16 · 2¹⁵ < 8 · 4 · 200²
    assert way(8, 200, 200, documents=40) == "short"
    assert way(8, 257, 257, documents=100) == "long"


@pytest.mark.parametrize("features", PAIRS, ids=" and ".join)
def test_long_rows_that_are_written_down(features: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "WRITTEN", SIZES["WRITTEN"])
    case = a_case(features, LONG)
    assert_same(results(cpu.attention, *case), results(reference.attention, *case))


def test_torchs_kernel_has_what_it_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Causal, full, one query; shared keys, too. All else has masks, or is faster elsewhere."""
    taken: list[Any] = []
    fused = cpu.fused
    monkeypatch.setattr(cpu, "fused", lambda *a: taken.append(1) or fused(*a))  # type: ignore[func-returns-value]
    for features in ((), ("groups",), ("full",), ("full", "tail", "groups")):
        case = a_case(features)
        assert_same(results(cpu.attention, *case), results(reference.attention, *case))
        assert taken.pop() == 1, features
    for feature in ("window", "documents", "seen", "soft cap", "dropout", "tail", "wide values"):
        tensors, _, how = a_case((feature,))
        cpu.attention(*tensors, **how)
        assert not taken, feature


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("keys", [64, 65, 67])
def test_keys_of_one_sequence_are_shared_between_threads(
    keys: int, dtype: torch.dtype, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they do not divide, and where they are a part of a cache."""
    monkeypatch.setattr(cpu, "MANY_KEYS", 60)
    called = []
    in_parts = cpu.in_parts
    monkeypatch.setattr(cpu, "in_parts", lambda *given: called.append(given) or in_parts(*given))  # type: ignore[func-returns-value]
    torch.manual_seed(keys)
    q = torch.randn(1, 8, 1, 16, dtype=dtype)
    k, v = (torch.randn(1, 1, 100, 16, dtype=dtype)[:, :, :keys] for _ in range(2))
    found, lse = cpu.attention(q, k, v)
    wanted, true = reference.attention(q.float(), k.float(), v.float())
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.float(), wanted, rtol=1e-5, atol=1e-6 if dtype == torch.float32 else 1e-2
    )
    torch.testing.assert_close(lse, true, rtol=1e-5, atol=1e-6 if dtype == torch.float32 else 1e-2)
    (given,) = called
    assert given[1].data_ptr() == k.data_ptr(), "the keys were copied"


def test_a_corner_does_not_remember_where_it_was_first_asked_for() -> None:
    """A default device, or torch's made-up tensors, around one call change nothing about the next."""
    case = a_case(("window",))
    plan.corner.cache_clear()
    with torch.device("meta"):
        first, _ = cpu.attention(*case[0], **case[2])
    wanted, _ = reference.attention(*case[0], **case[2])
    for found in (first, cpu.attention(*case[0], **case[2])[0]):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("length", [SHORT, LONG])
@pytest.mark.parametrize("features", [(), ("groups", "dropout"), ("seen", "window")])
def test_no_rows_at_all(features: tuple[str, ...], length: int) -> None:
    tensors, _, how = a_case(features, length)
    how = {name: value[:0] if isinstance(value, Tensor) else value for name, value in how.items()}
    out, lse = cpu.attention(*(x[:0] for x in tensors), **how)
    assert out.shape == (0, 4, length, 8)
    assert lse.shape == (0, 4, length)


# Threads, and compilers


@pytest.mark.parametrize("features", [("seen",), ("window", "dropout"), ("documents",)])
def test_threads_infer_as_their_caller_does(features: tuple[str, ...], two_threads: None) -> None:
    tensors, _, how = a_case(features)
    with torch.inference_mode():
        found, _ = cpu.attention(*tensors, **how)
        assert found.is_inference()
    torch.testing.assert_close(found.clone(), reference.attention(*tensors, **how)[0])


def test_ctrl_c_while_threads_are_waited_for(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised when the others have come to an end, and torch computes with as many threads as before."""
    ended: list[int] = []
    join = threads.Thread.join
    interrupted: list[int] = []

    def interrupt(self: Any) -> None:
        if not interrupted:
            interrupted.append(1)
            raise KeyboardInterrupt
        join(self)

    def work(item: int, place: int) -> None:
        if place == 1:
            time.sleep(0.1)
            ended.append(item)

    monkeypatch.setattr(threads.Thread, "join", interrupt)
    with pytest.raises(KeyboardInterrupt):
        threads.share(work, list(range(20)), [0, 1])
    assert ended, "the other thread was not waited for"
    assert torch.get_num_threads() == 2


def test_an_error_in_another_thread_is_raised_here(two_threads: None) -> None:
    def work(item: int, place: int) -> None:
        if place == 1:
            raise ValueError("in the other")
        while not failed:
            pass

    failed: list[int] = []

    def fail(item: int, place: int) -> None:
        try:
            work(item, place)
        finally:
            failed.append(place)

    with pytest.raises(ValueError, match="in the other"):
        threads.share(fail, list(range(100)), [0, 1])
    assert torch.get_num_threads() == 2
    assert len(failed) <= 3, "the rest was still done"


@pytest.mark.parametrize("size", range(1, 30))
def test_parts_are_of_equal_number_for_every_thread(size: int) -> None:
    for weights, least in product((1, long.TILE // 4, 2 * long.TILE), (1, 2, 3)):
        found = list(long.split(slice(5, 5 + size), weights, least))
        assert [i for part in found for i in range(part.start, part.stop)] == list(range(5, 5 + size))
        assert len(found) == size or len(found) % least == 0
        for part in found:
            assert (part.stop - part.start) * weights <= long.TILE or part.stop - part.start == 1


COMPILED = """
import torch
from primer.kernels.attention import cpu

cpu.WRITTEN = cpu.CUT_UP = 0  # a compiler has tiles alone
torch.manual_seed(0)
q, k, v = (torch.randn(2, 2, 100, 16, requires_grad=True) for _ in range(3))
ids, d_out = (torch.arange(100) // 30).expand(2, 100), torch.randn(2, 2, 100, 16)


def run(q, k, v, seed):
    dropped = cpu.attention(q, k, v, dropout=0.2, dropout_seed=seed)[0]
    return dropped + cpu.attention(q, k, v, window=20, document_ids=ids)[0] + cpu.attention(q, k, v)[0]


compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
for seed in (3, 4, 5, torch.tensor(6)):
    found, wanted = compiled(q, k, v, seed), run(q, k, v, seed)
    assert torch.equal(found, wanted)
    assert all(map(torch.equal, *(torch.autograd.grad(out, (q, k, v), d_out) for out in (found, wanted))))
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3, "compiled anew for every seed"
"""


def test_a_compiler_takes_it_whole() -> None:
    """In one graph, with its gradients, and not again for another seed.

    In a process of its own, where no shapes are checked: the compiler does not see through the checks.
    """
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=200)


def test_without_gradients_nothing_else_is_different() -> None:
    for length, features in product((SHORT, LONG), ((), ("dropout", "seen"))):
        tensors, _, how = a_case(features, length, torch.float32)
        with torch.inference_mode():
            found, lse = cpu.attention(*tensors, **how)
        wanted, true = reference.attention(*tensors, **how)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(lse, true, rtol=1e-5, atol=1e-5)
        assert math.isfinite(float(found.sum()))
