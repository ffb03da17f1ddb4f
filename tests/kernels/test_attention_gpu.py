"""The Triton kernels, judged by float64: on a GPU where there is one, otherwise through Triton's interpreter."""

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")
if not torch.cuda.is_available():
    import interpreted  # noqa: F401  # puts the interpreter right

from primer.kernels.attention import attention, gpu, reference
from primer.kernels.attention.gpu import backward, decode, forward
from primer.kernels.attention.gpu.launch import Tiles
from primer.kernels.budget import distance, errors, results

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
T = 300 if torch.cuda.is_available() else 40
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*may lead to unexpected behavior:UserWarning"),
]

FEATURES: dict[str, dict[str, Any]] = {
    "causal": {"causal": True},
    "window": {"window": 13},
    "documents": {"documents": True},
    "padding": {"padding": True},
    "soft cap": {"soft_cap": 3.0},
    "dropout": {"dropout": 0.3, "dropout_seed": 5},
    "groups": {"groups": 3},
    "more keys": {"more": 37},
    "more queries": {"more": -23},
    "another width of values": {"v_width": 40},
    "a scale": {"softmax_scale": 0.4},
    "strides": {"strides": True},
}
DOCUMENTS_NEED_KEYS = {frozenset(("documents", "more queries"))}
PAIRS = [pair for pair in itertools.combinations(FEATURES, 2)
         if frozenset(pair) not in DOCUMENTS_NEED_KEYS and pair != ("more keys", "more queries")]  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """The interpreter computes with numpy, which warns of the infinities that masks are made of."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(autouse=True)
def poisoned() -> Any:
    """What is allocated is full of NaN until it is written."""
    if DEVICE == "cuda":
        yield  # there, deterministic kernels are others; the benchmark poisons memory its own way
        return
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def tensors(
    dtype: torch.dtype = torch.float32,
    *,
    width: int = 24,
    groups: int = 1,
    more: int = 0,
    v_width: int | None = None,
    documents: bool = False,
    padding: bool = False,
    strides: bool = False,
    **how: Any,
) -> tuple[list[Tensor], dict[str, Any]]:
    """q, k, v and dO, and attention's arguments."""
    torch.manual_seed(1)
    B, Hkv, S = 2 if documents or padding else 1, 2 if groups > 1 or strides else 1, T + more
    how = {"causal": False, **how}

    def draw(H: int, length: int, width: int) -> Tensor:
        if strides:  # as a projection leaves them, (B, T, H, D), and a slice of it
            return torch.randn(B, length, H + 1, width)[:, :, 1:].transpose(1, 2).to(DEVICE, dtype)
        return torch.randn(B, H, length, width).to(DEVICE, dtype)

    found = [
        draw(groups * Hkv, T, width),
        draw(Hkv, S, width),
        draw(Hkv, S, v_width or width),
        draw(groups * Hkv, T, v_width or width),
    ]
    if documents:
        how["document_ids"] = torch.randint(0, 4, (B, S)).sort(1).values.to(DEVICE)
    if padding:
        seen = torch.rand(B, S) < 0.8
        seen[1, : S // 2] = False
        how["seen"] = seen.to(DEVICE)
    return found, how


def holds(dtype: torch.dtype, **asked: Any) -> None:
    found, how = tensors(dtype, **asked)
    for name, error in errors(gpu.attention, *found, **how).items():
        assert error.ok, f"{name}: {error.found:.1e}, plain torch {error.plain:.1e}"


@pytest.fixture
def as_on_a_hopper_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiles that one has, which its copy engine fetches; but Triton's kernels, which the interpreter can run."""
    monkeypatch.setattr(gpu, "capability", lambda _: (9, 0))
    monkeypatch.setattr(gpu, "specialized", lambda *_: None)


@pytest.mark.parametrize("feature", ["full", *FEATURES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_each_feature_is_within_the_budget(feature: str, dtype: torch.dtype) -> None:
    holds(dtype, **FEATURES.get(feature, {}))


@pytest.mark.usefixtures("as_on_a_hopper_gpu")
@pytest.mark.parametrize("feature", ["full", *FEATURES])
def test_each_feature_with_the_copy_engine(feature: str) -> None:
    holds(torch.float16, **FEATURES.get(feature, {}))


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_each_pair_is_within_the_budget(pair: tuple[str, str]) -> None:
    first, second = pair
    holds(torch.float32, **FEATURES[first], **FEATURES[second])


@pytest.mark.parametrize("width", [32, 64, 96, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_each_width_is_within_the_budget(width: int, dtype: torch.dtype) -> None:
    holds(dtype, width=width, causal=True)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    queries=st.integers(1, 70),
    keys=st.integers(1, 70),
    width=st.sampled_from([8, 16, 40]),
    block_t=st.sampled_from([16, 32, 64]),
    block_s=st.sampled_from([16, 32, 64]),
    causal=st.booleans(),
    window=st.none() | st.integers(1, 80),
    copied=st.booleans(),
)
def test_any_shape_and_any_tile(
    queries: int,
    keys: int,
    width: int,
    block_t: int,
    block_s: int,
    causal: bool,
    window: int | None,
    copied: bool,
) -> None:
    torch.manual_seed(queries * keys)
    sizes = [(1, 2, queries, width), (1, 1, keys, width), (1, 1, keys, width), (1, 2, queries, width)]
    found = [torch.randn(size, device=DEVICE) for size in sizes]
    tiles = Tiles(block_t, block_s, 4, 2, copied)
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(gpu, "forward_tiles", lambda *_: tiles)
        patch.setattr(gpu, "backward_tiles", lambda *_: (tiles, tiles))
        for name, error in errors(gpu.attention, *found, causal=causal, window=window).items():
            # what sees one key has a gradient of 0, a difference of two sums of up to 40 products
            assert error.ok or (error.plain == 0 and error.found < 1e-5), f"{name}: {error}"


def test_a_query_that_sees_nothing_gets_zeros() -> None:
    """With fewer keys than queries the first queries see none; padding can hide all keys of a row."""
    (q, k, v, d_out), how = tensors(more=-20, causal=True, padding=True)
    how["seen"] = torch.ones(2, T - 20, dtype=torch.bool, device=DEVICE)
    how["seen"][1] = False
    found = results(gpu.attention, q, k, v, d_out, **how)
    assert not found["out"][:, :, :20].any()
    assert not found["out"][1].any()
    assert torch.equal(found["lse"][1], torch.full_like(found["lse"][1], -torch.inf))
    for name in ("dq", "dk", "dv"):
        assert not found[name][1].any(), name
        assert torch.isfinite(found[name]).all(), name


def test_dropout_drops_the_weights_that_its_seed_says() -> None:
    """The identity for values shows the weights themselves: exactly the reference's are 0."""
    q, k = torch.randn(1, 2, T, 16, device=DEVICE), torch.randn(1, 2, T, 16, device=DEVICE)
    v = torch.eye(T, 64, device=DEVICE).expand(1, 2, T, 64)
    how = {"causal": False, "dropout": 0.4, "dropout_seed": 99}
    mine, theirs = (each(q, k, v, **how)[0] for each in (gpu.attention, reference.attention))
    assert torch.equal(mine == 0, theirs == 0)
    assert not torch.equal(mine == 0, gpu.attention(q, k, v, **{**how, "dropout_seed": 98})[0] == 0)


def test_autocast_reaches_the_kernels() -> None:
    (q, k, v, _), how = tensors()
    with torch.autocast(DEVICE, torch.bfloat16):
        out = attention(q, k, v, implementation="gpu", **how)
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("paged", [False, True], ids=["contiguous", "paged"])
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize(
    "asked", [{}, {"window": 40}, {"soft_cap": 2.0}, {"causal": False, "window": 40}], ids=str
)
@pytest.mark.parametrize("splits", [1, 3, 12])
def test_decoding(paged: bool, queries: int, asked: dict[str, Any], splits: int) -> None:
    """Rows of different lengths; what no row holds is NaN in the pool."""
    torch.manual_seed(3)
    B, H, Hkv, S, D, Dv, page = 2, 4, 2, 150, 24, 16, 16
    how = {"causal": True, "window": 0, "soft_cap": 0.0, **asked}
    q = torch.randn(B, H, queries, D, device=DEVICE)
    k, v = torch.randn(B, Hkv, S, D, device=DEVICE), torch.randn(B, Hkv, S, Dv, device=DEVICE)
    lengths = [S, 61]
    keys, values, rows = k, v, {}
    if paged:
        count = -(-S // page)
        table = torch.randperm(2 * count + 3)[: 2 * count].view(B, count)
        keys = torch.full((2 * count + 3, Hkv, page, D), torch.nan, device=DEVICE)
        values = torch.full((2 * count + 3, Hkv, page, Dv), torch.nan, device=DEVICE)
        for b, s in itertools.chain(*(itertools.product([b], range(lengths[b])) for b in range(B))):
            keys[table[b, s // page], :, s % page] = k[b, :, s]
            values[table[b, s // page], :, s % page] = v[b, :, s]
        rows = {"page_table": table.int().to(DEVICE)}
    rows["lengths"] = torch.tensor(lengths, dtype=torch.int32, device=DEVICE)
    out, lse = decode.decode(q, keys, values, softmax_scale=D**-0.5, splits=splits, **how, **rows)
    for row, length in enumerate(lengths):
        there = [x[row : row + 1, :, :length].double() for x in (k, v)]
        wanted, wanted_lse = reference.attention(
            q[row : row + 1].double(), *there, **{**how, "window": how["window"] or None}
        )
        assert distance(out[row : row + 1], wanted) < 1e-6
        assert distance(lse[row : row + 1], wanted_lse) < 1e-6


SABOTAGES = {
    "the rescale is dropped": (forward, "acc = acc * rescale[:, None]", "acc = acc * 1.0"),
    "the sum is not rescaled": (forward, "total = total * rescale + ", "total = total + "),
    "the mask is shifted": (forward, "s[None, :] <= last[:, None]", "s[None, :] < last[:, None]"),
    "the window is shifted": (forward, "s[None, :] >= first[:, None]", "s[None, :] > first[:, None]"),
    "the tail tile is forgotten": (forward, "uppermost + 1", "(uppermost + 1) // BLOCK_S * BLOCK_S"),
    "the first tile is forgotten": (
        forward,
        "begin, end = lowest // BLOCK_S * BLOCK_S",
        "begin, end = (lowest + BLOCK_S) // BLOCK_S * BLOCK_S",
    ),
    "the scale is forgotten": (forward, "tl.exp2(scores * scale - ", "tl.exp2(scores - "),
    "lse is of base 2": (forward, "(highest + tl.log2(total)) * LN2", "(highest + tl.log2(total))"),
    "dropout is not made up for": (forward, "total * kept_share", "total"),
    "dropped weights are summed": (
        forward,
        "total * rescale + tl.sum(p, 1)",
        "total * rescale + tl.sum(p, 1) * 0.9",
    ),
    "delta is forgotten": (backward, "ds = p * (dp - delta[None, :])", "ds = p * dp"),
    "delta is forgotten in dQ": (backward, "ds = p * (dp - delta[:, None])", "ds = p * dp"),
    "the cap's slope is forgotten": (backward, "ds *= 1.0 - bent * bent", "ds *= 1.0"),
    "backward's mask is shifted": (
        backward,
        "t[None, :] >= first[:, None]",
        "t[None, :] > first[:, None]",
    ),
    "dQ's mask is shifted": (backward, "s[None, :] <= last[:, None]", "s[None, :] < last[:, None]"),
    "the last queries are forgotten": (
        backward,
        "(highest + BLOCK_T) // BLOCK_T - low",
        "highest // BLOCK_T - low",
    ),
    "only the first head of a group": (backward, "h = hkv * group + step // blocks", "h = hkv * group"),
    "backward drops other weights": (
        backward,
        "stays = kept(row[None, :]",
        "stays = kept(row[None, :] + 1",
    ),
    "padding is seen": (backward, "p = tl.where(there[:, None], p, 0.0)", "p = p"),
    "dK is not scaled": (backward, "dk * softmax_scale", "dk"),
}


@pytest.mark.parametrize("name", SABOTAGES)
def test_what_is_broken_on_purpose_is_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these changes makes a result fail that the kernels as they are pass."""
    module, good, bad = SABOTAGES[name]
    monkeypatch.setattr(gpu, module.__name__.rpartition(".")[2], broken(module, good, bad, tmp_path))
    monkeypatch.setattr(gpu, "specialized", lambda *_: None)
    asked = [
        {"causal": True, "more": 5, "width": 16},
        {"causal": True, "window": 9, "groups": 2, "width": 16},
        {"soft_cap": 1.0, "dropout": 0.3, "padding": True, "width": 16},
    ]
    for each in asked:
        found, how = tensors(**each)
        if not all(error.ok for error in errors(gpu.attention, *found, **how).values()):
            return
    pytest.fail(f"nobody noticed that {name}")


def broken(module: ModuleType, good: str, bad: str, folder: Path) -> ModuleType:
    """A copy of a module with a change in it."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert good in source, f"{good!r} is not there to be broken"
    file = folder / "broken.py"
    file.write_text(source.replace(good, bad), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("broken", file)
    assert spec
    assert spec.loader
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


ONE_GRAPH = """
import torch
from primer.kernels.attention import attention

def both(q, k, v):
    return attention(q, k, v, implementation="gpu", dropout=0.1, dropout_seed=3)

q, k, v, d_out = (torch.randn(2, 4, 200, 64, device="cuda", dtype=torch.bfloat16) for _ in range(4))
leaves = [x.requires_grad_() for x in (q, k, v)]
plain = torch.autograd.grad(both(*leaves), leaves, d_out)
graph = torch.autograd.grad(torch.compile(both, fullgraph=True)(*leaves), leaves, d_out)
for mine, theirs in zip(graph, plain, strict=True):
    assert float((mine - theirs).norm() / theirs.norm()) < 1e-2
"""


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_a_compiler_finds_one_graph() -> None:
    """In a process of its own: what checks shapes in tests breaks a graph."""
    done = subprocess.run([sys.executable, "-c", ONE_GRAPH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
@pytest.mark.parametrize("width", [64, 96, 128])
@pytest.mark.parametrize(
    "feature", ["full", "causal", "window", "documents", "groups", "more keys", "more queries"]
)
def test_roles_told_apart_compute_the_same(width: int, feature: str) -> None:
    """The Gluon kernels, which no interpreter runs; and that they are what runs on a Hopper GPU."""
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs a Hopper GPU")
    assert gpu.gluon_kernels() is not None
    holds(torch.bfloat16, width=width, **FEATURES.get(feature, {}))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_deterministic_means_the_same_bits() -> None:
    (q, k, v, d_out), how = tensors(torch.bfloat16, width=128, causal=True)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (results(gpu.attention, q, k, v, d_out, **how) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    for name in first:
        assert torch.equal(first[name], second[name]), name
