"""What attention must cost is counted right, and what it costs is measured of everything, or its absence explained."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from primer import device as devices
from primer.errors import SurroundingsError, UsageError
from primer.kernels.attention import IMPLEMENTATIONS, measure, reference
from primer.kernels.attention.measure import LEAST_TURNS, Measured
from primer.kernels.attention.roofline import Machine, Roof, Workload, document_ids

CPU = torch.device("cpu")
MACHINE = Machine(CPU, peak=1e11, bandwidth=1e10)
SMALL = Workload(batch_size=2, n_heads=2, n_kv_heads=1, context_length=24, d_head=8, d_value=8)
ALL = [name for name in IMPLEMENTATIONS if name != "flex"]  # which would be compiled


@pytest.fixture
def no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's kernels need a GPU, as they do outside of these tests."""
    triton = pytest.importorskip("triton")
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)


def last(states: Iterator[Measured]) -> Measured:
    *_, state = states
    return state


# What is counted


@pytest.mark.parametrize(
    ("asked", "pairs"),
    [
        ({"context_length": 4}, 1 + 2 + 3 + 4),
        ({"context_length": 4, "causal": False}, 16),
        ({"context_length": 5, "window": 2}, 1 + 2 + 2 + 2 + 2),
        ({"context_length": 5, "window": 2, "causal": False}, 2 + 3 + 3 + 3 + 2),
        ({"context_length": 6, "documents": 2}, 2 * (1 + 2 + 3)),
        ({"context_length": 6, "documents": 2, "causal": False}, 2 * 9),
        ({"context_length": 5, "documents": 2}, (1 + 2 + 3) + (1 + 2)),
        ({"context_length": 8, "documents": 2, "window": 2}, 2 * (1 + 2 + 2 + 2)),
        ({"context_length": 1}, 1),
    ],
)
def test_pairs_and_flops_by_hand(asked: dict[str, Any], pairs: int) -> None:
    """Of 3 rows and 4 heads; heads that share a key head count each for itself."""
    found = Workload(batch_size=3, n_heads=4, n_kv_heads=2, d_head=8, d_value=5, **asked)
    assert found.visible_pairs == 12 * pairs
    assert found.flops("forward") == 12 * pairs * (2 * 8 + 2 * 5)
    assert found.flops("backward") == 12 * pairs * (3 * 2 * 8 + 2 * 2 * 5)
    square = replace(found, d_value=8)
    assert square.flops("forward") == 4 * 8 * square.visible_pairs
    assert square.flops("backward") == 2.5 * square.flops("forward")


@pytest.mark.parametrize("window", [None, 1, 7])
@pytest.mark.parametrize("documents", [1, 3])
@pytest.mark.parametrize("causal", [True, False])
def test_visible_is_what_the_reference_does_not_hide(
    window: int | None, documents: int, causal: bool
) -> None:
    asked = replace(SMALL, window=window, documents=documents, causal=causal)
    q, k, _, _ = measure.tensors(asked, CPU)
    how = {"causal": causal, "window": window, "document_ids": document_ids(asked)}
    scores = reference.attention_scores(q, k, **how)
    assert asked.visible_pairs == int(torch.isfinite(scores).sum())


def test_documents_are_of_equal_length() -> None:
    ids = document_ids(Workload(batch_size=2, context_length=10, documents=4))
    assert ids.shape == (2, 10)
    assert ids[0].bincount().tolist() == [3, 2, 3, 2]
    assert torch.equal(ids[0], ids[1])


def test_bytes_by_hand() -> None:
    """Grouped heads: keys and values move once for all queries that share them. lse is float32 whatever the rest is."""
    asked = Workload(
        batch_size=2,
        n_heads=4,
        n_kv_heads=2,
        context_length=8,
        d_head=16,
        d_value=8,
        dtype=torch.bfloat16,
    )
    q, k, v, out, lse = 2048, 1024, 512, 1024, 256
    assert asked.bytes("forward") == q + k + v + out + lse
    assert asked.bytes("backward") == (q + k + v + out + lse) + out + (q + k + v)
    assert asked.results == out + lse + q + k + v
    assert replace(asked, backward=False).results == out + lse


def test_the_roof_is_the_lower_of_two_ceilings() -> None:
    waits = Roof(flops=1000, bytes=1000, machine=MACHINE)
    assert (waits.intensity, waits.limit, waits.rate) == (1, "memory", 1e10)
    assert waits.seconds == pytest.approx(1000 / 1e10)
    computes = Roof(flops=100_000, bytes=1000, machine=MACHINE)
    assert (computes.intensity, computes.limit, computes.rate) == (100, "compute", 1e11)
    assert computes.seconds == pytest.approx(1e5 / 1e11)


def test_what_is_judged_is_the_same_in_small() -> None:
    asked = Workload(batch_size=8, context_length=4096, window=2048, documents=3, soft_cap=3.0)
    assert asked.judged() == replace(asked, batch_size=1, context_length=256, window=128)
    assert replace(asked, window=20, documents=4096).judged() == replace(
        asked, batch_size=1, context_length=256, window=20, documents=64
    ), "neither becomes a single token"
    assert replace(asked, window=None).judged().window is None
    assert replace(SMALL, window=5, documents=20).judged() == replace(
        SMALL, batch_size=1, window=5, documents=20
    )


# What is measured


def test_everything_is_measured_or_has_its_reason(no_interpreter: None) -> None:
    found = last(measure.measure(SMALL, MACHINE, ALL, seconds=0.001))
    assert found.rows.keys() | found.missing.keys() == set(ALL)
    assert not found.rows.keys() & found.missing.keys()
    assert {"reference", "tiled", "cpu", "library", "library_math"} <= found.rows.keys()
    if not torch.cuda.is_available():
        assert "the kernels need a CUDA device" in found.missing["gpu"]
        assert "no such kernel" in found.missing["library_cudnn"]
    for name, row in found.rows.items():
        assert set(row.turns) == {"forward", "backward"}
        assert min(map(len, row.turns.values())) >= LEAST_TURNS
        assert (row.seconds("forward") or 0) > 0
        assert {"out", "dq", "dk", "dv"} <= row.errors.keys()
        assert row.ok or name.startswith("library"), name
        assert max(error.found for error in row.errors.values()) < 1e-6
    judge = found.rows["reference"].errors
    assert all(error.found == error.plain for error in judge.values())
    assert "lse" in judge
    assert "lse" not in found.rows["library"].errors


def test_without_a_backward_pass_there_is_none() -> None:
    found = last(measure.measure(replace(SMALL, backward=False), MACHINE, ["tiled"], seconds=0.001))
    row = found.rows["tiled"]
    assert list(row.turns) == ["forward"]
    assert set(row.errors) == {"out", "lse"}
    assert row.seconds("backward") is None


def test_all_options_reach_the_implementations() -> None:
    asked = replace(SMALL, window=5, documents=3, soft_cap=2.0, dropout=0.2)
    heard: list[dict[str, Any]] = []

    def listening(*tensors: Any, **how: Any) -> Any:
        heard.append(how)
        return IMPLEMENTATIONS["reference"](*tensors, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(IMPLEMENTATIONS, "tiled", listening)
        found = last(measure.measure(asked, MACHINE, ["tiled"], seconds=0.001))
    assert found.rows["tiled"].ok
    for how in heard:
        assert (how["causal"], how["window"], how["soft_cap"], how["dropout"]) == (True, 5, 2.0, 0.2)
        assert how["dropout_seed"] == 1
        assert how["document_ids"][0].bincount().tolist() == [8, 8, 8]


def test_one_that_computes_wrongly_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unmasked(*tensors: Any, **how: Any) -> Any:
        return reference.attention(*tensors, **{**how, "causal": False})

    monkeypatch.setitem(IMPLEMENTATIONS, "tiled", unmasked)
    found = last(measure.measure(SMALL, MACHINE, ["tiled", "cpu"], seconds=0.001))
    assert not found.rows["tiled"].ok
    assert not found.rows["tiled"].errors["dk"].ok
    assert found.rows["cpu"].ok


def test_whatever_goes_wrong_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*tensors: Any, **how: Any) -> Any:
        raise ValueError("no such width. Choose another")

    monkeypatch.setitem(IMPLEMENTATIONS, "cpu", fails)
    found = last(measure.measure(replace(SMALL, soft_cap=2.0), MACHINE, ["cpu", "library"], seconds=0.001))
    assert not found.rows
    assert found.missing["cpu"] == "ValueError: no such width"
    assert "has no soft cap" in found.missing["library"]


def test_dropout_that_is_another_draw_is_not_judged() -> None:
    found = last(measure.measure(replace(SMALL, dropout=0.5), MACHINE, ["library", "tiled"], seconds=0.001))
    assert found.rows["library"].errors == {}
    assert found.rows["tiled"].errors.keys() == {"out", "lse", "dq", "dk", "dv"}
    assert found.rows["tiled"].ok


def test_they_take_turns_after_being_warmed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def turn(name: str, *_: Any) -> dict[str, float]:
        order.append(name)
        return {"forward": float(len(order))}

    monkeypatch.setattr(measure, "turn", turn)
    found = last(measure.measure(SMALL, MACHINE, ["tiled", "reference"], seconds=1e-9))
    assert order[:2] == ["tiled"] * 2
    assert order[2:4] == ["reference"] * 2
    assert order[4:] == ["tiled", "reference"] * LEAST_TURNS
    assert found.rows["tiled"].turns == {"forward": [5.0, 7.0, 9.0]}, "what warmed up does not count"
    assert found.rows["tiled"].seconds("forward") == 7.0
    assert found.turns == LEAST_TURNS
    assert found.done >= 1


def test_who_stops_has_what_there_was() -> None:
    for state in measure.measure(SMALL, MACHINE, ["reference", "tiled", "cpu"], seconds=0.001):
        if state.doing == "trying cpu":
            break
    assert list(state.rows) == ["reference", "tiled"]
    assert state.missing == {"cpu": "stopped before it was tried"}
    assert state.rows["tiled"].seconds("forward") is None
    assert state.turns == 0


def test_what_does_not_fit_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of weights has 2 × 2 × 24 × 24 float32 numbers: 9,216 bytes, of which the reference holds four."""
    monkeypatch.setattr(devices, "free_memory", lambda device: 4 * 9216 - 1)
    found = last(measure.measure(SMALL, MACHINE, ["reference", "tiled"], seconds=0.001))
    assert list(found.rows) == ["tiled"]
    assert "tables of T × S numbers" in found.missing["reference"]
    monkeypatch.setattr(devices, "free_memory", lambda device: SMALL.bytes("backward") - 1)
    with pytest.raises(SurroundingsError, match="queries, keys, values"):
        last(measure.measure(SMALL, MACHINE, ["tiled"]))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("reference", {}),
        ("reference", {"dropout": 0.2}),
        ("library", {"window": 100}),
        ("library_math", {}),
        ("tiled", {"window": 100, "documents": 2}),
    ],
)
def test_tables_are_as_large_as_foreseen(name: str, asked: dict[str, Any]) -> None:
    """What is said to fit must not end the process, and what is refused must be too large."""
    if not measure.forget_peak():
        pytest.skip("this system keeps no peak that can be forgotten")
    large = Workload(n_heads=4, n_kv_heads=4, context_length=1024, d_head=8, d_value=8, **asked)
    inputs, how = measure.tensors(large, CPU), measure.options(large, CPU)
    measure.turn(name, inputs, how, CPU)
    peak = measure.memory_of(lambda: measure.turn(name, inputs, how, CPU), CPU) or 0
    foreseen = measure.tables(name, large)
    assert (foreseen == 0) == (name == "tiled")
    assert 0.6 * foreseen < peak < 1.5 * foreseen + (8 << 20), "beyond its tables it holds tiles and results"


def test_memory_is_the_peak_of_a_call() -> None:
    """Two tensors of 32 MB one after the other are one at once; what is there before is not counted."""
    if not measure.forget_peak():
        pytest.skip("this system keeps no peak that can be forgotten")
    size = 32 << 20
    before = torch.zeros(2 * size, dtype=torch.uint8)

    def one_after_the_other() -> None:
        for _ in range(2):
            torch.ones(size, dtype=torch.uint8)

    def both() -> None:
        held = [torch.ones(size, dtype=torch.uint8) for _ in range(2)]
        assert len(held) == 2

    one, two = measure.memory_of(one_after_the_other, CPU), measure.memory_of(both, CPU)
    assert one is not None
    assert two is not None
    assert 0.95 * size < one < 1.3 * size  # the system counts pages in batches
    assert 1.95 * size < two < 2.3 * size
    assert before.nbytes == 2 * size


def test_names() -> None:
    assert measure.chosen("") == list(IMPLEMENTATIONS)
    assert measure.chosen("cpu, tiled,cpu") == ["cpu", "tiled"]
    with pytest.raises(UsageError, match="no implementation is called 'tile'") as caught:
        measure.chosen("cpu,tile")
    assert caught.value.hint == "tiled"


def test_torch_warns_of_the_reason() -> None:
    error = RuntimeError("No available kernel. Aborting execution.")
    said = [
        "Memory efficient kernel not used because: (Triggered internally at a.cpp:1.)",
        "Memory Efficient attention has been runtime disabled. (Triggered internally at a.cpp:2.)",
        "Flash attention kernel not used because: (Triggered internally at a.cpp:3.)",
        "Expected query, key and value to all be of dtype: {Half}. (Triggered internally at a.cpp:4.)",
        "Expected query, key and value to all be of dtype: {Half}. (Triggered internally at a.cpp:4.)",
    ]
    assert measure.reason(error, said) == "Expected query, key and value to all be of dtype: {Half}."
    assert measure.reason(error, said[:3]) == "torch has no such kernel for what is asked on this device"
    assert measure.reason(RuntimeError("CUDA out of memory. Tried …"), said) == "CUDA out of memory"
    assert measure.reason(SurroundingsError("a", "b", "c"), []) == "a (b)"
    assert measure.reason(NotImplementedError(), []) == "no message"
