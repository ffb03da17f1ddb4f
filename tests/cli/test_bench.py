"""`primer bench attention`, as a person types it."""

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from primer.cli.bench import EXAMPLES
from primer.cli.main import main
from primer.kernels.attention import IMPLEMENTATIONS, measure, reference, roofline
from primer.kernels.attention.roofline import Machine

SMALL = (
    "--context-length=32", "--n-heads=2", "--d-head=8", "--dtype=fp32", "--device=cpu", "--threads=1",
    "--seconds=0.001", "--implementations=reference,tiled,library_cudnn",
)  # fmt: skip
PAIRS = 2 * 32 * 33 // 2
Says = Callable[..., str]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 GFLOP/s and 10 GB/s: measuring it would take longer than all else."""
    monkeypatch.setattr(roofline, "look_at", lambda device, dtype: Machine(device, 1e11, 1e10))


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    def said(*words: str, code: int = 0, err: bool = False) -> str:
        capsys.readouterr()
        assert main(["bench", "attention", *words]) == code
        found = capsys.readouterr()
        return found.err if err else found.out

    return said


def line_of(out: str, name: str) -> list[str]:
    """The cells of an implementation's line."""
    (found,) = re.findall(rf"^{name} .*$", out, re.M)
    return re.split(r" {2,}", found)


def test_a_table_beside_the_roofline(says: Says) -> None:
    out = says(*SMALL)
    assert "100 GFLOP/s in a product of float32 matrices, 10.0 GB/s in a copy" in out
    assert "work of less than 10.0 FLOPs for each byte" in out
    assert "T = 32: 1 row, 2 heads of 8, float32, causal\n" in out
    assert f"{PAIRS:,} of 2,048 pairs of query and key are visible; times: medians of " in out
    head = line_of(out, "implementation")
    passes = [[which, "GFLOP/s", "of roof"] for which in ("forward", "backward")]
    assert head == ["implementation", *passes[0], *passes[1], "memory", "error", "× plain"]
    for name in ("reference", "tiled"):
        cells = line_of(out, name)
        assert len(cells) == len(head)
        assert cells[3].endswith("%")
        assert 0 < float(cells[8]) < 1e-6
    assert line_of(out, "reference")[9] == "1"
    # 33,792 FLOPs and 4 · 512 numbers for q, k, v and out, and 64 for lse: 4 FLOPs a byte, of the ten that it takes
    flops, moved = PAIRS * 32, 4 * (4 * 512 + 64)
    rate = flops / moved * 10
    assert moved / 10e9 == pytest.approx(0.845e-6, rel=1e-3)
    assert line_of(out, "roofline")[:3] == ["roofline", "0.000845 ms", f"{rate:.1f}"]
    assert out.count("FLOPs a byte: memory is the ceiling") == 2
    assert "not measured:\n  library_cudnn  torch has no such kernel" in out
    assert "turns; errors: of one row of 32 tokens\n" in out
    assert "\x1b" not in out


def test_progress_is_on_stderr(says: Says) -> None:
    err = says(*SMALL, err=True)
    assert err.splitlines() == [
        "measuring the machine's two ceilings",
        "T = 32: trying reference",
        "T = 32: trying tiled",
        "T = 32: trying library_cudnn",
        "T = 32: taking turns",
    ]


def test_as_json(says: Says) -> None:
    told = json.loads(says(*SMALL, "--context-length=32,16", "--n-kv-heads=1", "--d-value=4", "--json"))
    assert told.keys() == {"machine", "complete", "lengths"}
    assert told["complete"] is True
    assert (told["machine"]["matmul_flops"], told["machine"]["memory_bandwidth"]) == (1e11, 1e10)
    assert [each["workload"]["context_length"] for each in told["lengths"]] == [32, 16]
    first = told["lengths"][0]
    asked = {key: first["workload"][key] for key in ("n_heads", "n_kv_heads", "d_head", "d_value", "dtype")}
    assert asked == {"n_heads": 2, "n_kv_heads": 1, "d_head": 8, "d_value": 4, "dtype": "float32"}
    assert first["workload"]["visible_pairs"] == PAIRS
    assert first["judged"] == {"context_length": 32, "window": None, "documents": 1}
    assert first["roofline"].keys() == {"forward", "backward", "memory"}
    roof = first["roofline"]["forward"]
    assert roof["flops"] == PAIRS * 2 * (8 + 4)
    assert roof["bytes"] == 4 * (32 * (2 * 8 + 8 + 4 + 2 * 4) + 32 * 2)
    assert roof["intensity"] == pytest.approx(roof["flops"] / roof["bytes"])
    assert roof["limit"] == "memory"
    assert list(first["implementations"]) == ["reference", "tiled"]
    assert list(first["not_measured"]) == ["library_cudnn"]
    row = first["implementations"]["tiled"]
    assert row.keys() == {"forward", "backward", "memory", "ok", "errors"}
    assert row["ok"] is True
    assert row["errors"].keys() == {"out", "lse", "dq", "dk", "dv"}
    assert row["errors"]["dq"].keys() == {"found", "plain", "ok"}
    timed = row["forward"]
    assert timed["turns"] >= 3
    assert timed["rate"] == pytest.approx(roof["flops"] / timed["seconds"])
    assert timed["share"] == pytest.approx(timed["rate"] / roof["rate"])


def test_every_choice_is_told(says: Says) -> None:
    out = says(
        *SMALL, "--batch-size=2", "--n-kv-heads=1", "--d-value=16", "--no-causal", "--window=8",
        "--documents=4", "--soft-cap=5", "--dropout=0.1", "--no-backward", "--dtype=bf16",
    )  # fmt: skip
    assert (
        "T = 32: 2 rows, 2 heads of 8 over 1, bfloat16, values of 16, full, window 8, 4 documents a row, "
        "soft cap 5, dropout 0.1\n" in out
    )
    assert f"{2 * 2 * 4 * 64:,} of 4,096 pairs" in out
    assert "backward" not in line_of(out, "implementation")
    assert "errors: of one row of 32 tokens, window 8, 4 documents\n" in out


def test_what_cannot_be_judged_is_told(says: Says) -> None:
    out = says(*SMALL, "--implementations=library,tiled", "--dropout=0.5")
    assert line_of(out, "library")[-2:] == ["-", "-"]
    assert "a draw of its own" in out
    assert float(line_of(out, "tiled")[-2]) < 1e-6


def test_what_is_wrong_is_told(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(*tensors: Any, **how: Any) -> Any:
        out, lse = reference.attention(*tensors, **how)
        return out * (1 + 1e-3), lse + math.inf

    monkeypatch.setitem(IMPLEMENTATIONS, "tiled", spoilt)
    out = says(*SMALL)
    assert re.search(
        r"^tiled exceeds the budget of errors: out 1e-03, plain torch \de-0\d; lse inf", out, re.M
    )
    assert "reference exceeds" not in out
    row = json.loads(says(*SMALL, "--json"))["lengths"][0]["implementations"]["tiled"]
    assert row["ok"] is False
    assert row["errors"]["lse"]["found"] is None, "JSON has no infinity"


def test_nothing_at_all(says: Says) -> None:
    words = (*SMALL, "--implementations=library_cudnn")
    assert "library_cudnn  torch has no such kernel" in says(*words, code=3)
    assert "nothing could be measured, for the reasons above" in says(*words, code=3, err=True)


def test_ctrl_c_prints_what_there_was(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, turns = measure.turn, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal turns
        turns += 1
        if turns == 6:  # two of each to warm up, and one of the first; then
            raise KeyboardInterrupt
        return turn(*arguments)

    monkeypatch.setattr(measure, "turn", interrupted)
    out = says(*SMALL, code=130)
    assert line_of(out, "reference")[1].endswith(" ms")
    assert line_of(out, "tiled")[1:4] == ["-", "-", "-"]
    turns = 3  # while the second is tried, of two lengths
    told = json.loads(says(*SMALL, "--context-length=32,64", "--json", code=130))
    assert told["complete"] is False
    (length,) = told["lengths"]
    assert length["implementations"]["reference"]["forward"] is None
    assert length["not_measured"] == dict.fromkeys(("tiled", "library_cudnn"), "stopped before it was tried")
    turns = 5
    assert "stopped: by Ctrl-C" in says(*SMALL, code=130, err=True)
    turns = 5  # before anything is known
    assert says(*SMALL, code=130) == ""


def test_a_picture_with_the_roofline_in_it(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    drawn: list[Any] = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, file, dpi: drawn.append(self))
    told = json.loads(says(*SMALL, "--context-length=16", "--json", f"--plot={tmp_path / 'x.png'}"))
    forward, _ = drawn[0].axes
    lines = {line.get_label(): line for line in forward.lines}
    assert set(lines) == {"reference", "tiled", "roofline"}
    for name, line in lines.items():
        assert line.get_xdata().tolist() == [16, 32], "in order, whatever order was asked for"
        for rate, each in zip(line.get_ydata(), reversed(told["lengths"]), strict=True):
            of = each["roofline"] if name == "roofline" else each["implementations"][name]
            assert rate == pytest.approx(of["forward"]["rate"] / 1e9)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--n-kv-heads=3"], 2, ["--n-heads=8 does not divide by --n-kv-heads=3", "--n-kv-heads=2"]),
        (["--n-kv-heads=16"], 2, ["does not divide by --n-kv-heads=16", "--n-kv-heads=8"]),
        (["--context-length=64,0"], 2, ["--context-length must be at least 1"]),
        (["--context-length="], 2, ["--context-length must be at least 1"]),
        (["--window=0"], 2, ["--window must be at least 1", "--window=4"]),
        (["--documents=65", "--context-length=64,128"], 2, ["do not fit into 64 tokens", "--documents=64"]),
        (["--dropout=1"], 2, ["--dropout is a chance"]),
        (["--soft-cap=-1"], 2, ["must not be negative"]),
        (["--seconds=0"], 2, ["--seconds must be above 0"]),
        (["--implementations=cpu,libary"], 2, ["no implementation is called 'libary'", "library"]),
        (["--dtype=fp8"], 2, ["dtype must be one of auto, fp32, bf16, fp16"]),
        (["--plot=x.jpg"], 2, ["--plot writes .png or .svg"]),
        (["--all"], 2, ["--all goes with --asm"]),
        (["--asm=sm_90a", "--plot=x.png"], 2, ["--asm measures nothing"]),
        (["--lengths=3"], 2, ["unknown flag --lengths"]),
        (["flash"], 2, ["one argument too many"]),
    ],
)
def test_mistakes(says: Says, words: list[str], code: int, said: list[str]) -> None:
    err = says(*words, code=code, err=True)
    for each in said:
        assert each in err
    assert "Traceback" not in err
    assert "try:" in err


def test_a_device_that_is_not_there(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    err = says("--device=cuda", code=3, err=True)
    assert "cuda is not available here" in err
    assert "--device=cpu" in err


def test_the_word_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 2
    assert "primer bench needs a word" in capsys.readouterr().err
    assert main(["bench", "atention"]) == 2
    assert "unknown verb 'atention'" in capsys.readouterr().err
    for words in (["bench", "--help"], ["bench", "attention", "--help"]):
        assert main(words) == 0
        said = capsys.readouterr().out
        assert "usage: primer bench attention" in said or "usage: primer bench " in said
        assert all(f"  {example}\n" in said for example in EXAMPLES)


# What compilers make of the kernels


class Fake(NamedTuple):
    """A launch."""

    kernel: Any
    arguments: dict[str, Any]


def kernel(name: str) -> Any:
    def source() -> None: ...

    source.__module__, source.__name__ = "primer.kernels.attention.gpu.forward", name
    return type("Kernel", (), {"fn": staticmethod(source)})


@pytest.fixture
def assembly(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of each call two kernels, of which one cannot be compiled; real ones take seconds each."""
    triton = pytest.importorskip("triton")
    from primer.kernels.attention import assembly

    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    asked: list[Any] = []

    def launches(variant: Any, architecture: str) -> list[Fake]:
        asked.append((str(variant), architecture))
        return [Fake(kernel("forward"), {}), Fake(kernel("broken"), {})]

    def report(launch: Any, architecture: str) -> Any:
        if launch.kernel.fn.__name__ == "broken":
            raise RuntimeError("at 1:2:\n^") from TypeError("\nno such thing\n")
        return assembly.Report("forward.forward", 168, 1024, 81920, 24, 0, 6, ("C7510",))

    monkeypatch.setattr(assembly, "launches", launches)
    monkeypatch.setattr(assembly, "report", report)
    monkeypatch.setattr(assembly, "asked", asked, raising=False)
    return assembly


def test_what_compilers_make_of_a_call(says: Says, assembly: Any) -> None:
    out = says("--asm=sm_90a", "--d-head=128", "--window=100")
    assert assembly.asked == [("window, width 128, bf16", "sm_90a")]
    figures = ["168", "1,024", "81,920", "24", "0", "6", "C7510"]
    assert line_of(out, "forward.forward") == ["forward.forward", *figures]
    assert "forward.broken was not compiled: no such thing\n" in out
    for word in ("registers", "spilled", "shared", "HGMMA", "waits"):
        assert re.search(rf"^{word} +\w", out, re.M), "how to read it"
    told = json.loads(says("--asm=sm_80", "--dtype=fp32", "--json"))
    assert told["architecture"] == "sm_80"
    (variant,) = told["variants"]
    assert (variant["width"], variant["dtype"], variant["feature"]) == (64, "float32", "causal")
    assert variant["kernels"][0]["registers"] == 168
    assert variant["failed"] == {"forward.broken": "no such thing"}


def test_nothing_that_compiles(says: Says, assembly: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "launches", lambda *_: [Fake(kernel("broken"), {})])
    out = says("--asm=sm_80", code=3)
    assert "causal, width 64, bf16\nforward.broken was not compiled: no such thing\n" in out
    assert "nothing could be compiled" in says("--asm=sm_80", code=3, err=True)


def test_every_option_has_a_table(says: Says, assembly: Any) -> None:
    flags = ["--no-causal", "--causal", "--window=2", "--documents=2", "--soft-cap=1", "--dropout=0.1"]
    for flag in flags:
        says("--asm=sm_80", flag)
    asked = {variant.partition(",")[0] for variant, _ in assembly.asked}
    assert len(asked) == len(flags)
    assert asked <= set(assembly.FEATURES)


def test_all_variants(says: Says, assembly: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out = says("--asm=sm_80", "--all")
    assert [variant for variant, _ in assembly.asked] == [str(each) for each in assembly.VARIANTS]
    assert out.count("forward.forward ") == len(assembly.VARIANTS)
    report, count = assembly.report, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return report(*arguments)

    monkeypatch.setattr(assembly, "report", interrupted)
    out = says("--asm=sm_80", "--all", code=130)
    assert out.count("forward.forward ") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--asm=sm_91"], ["no table is made for 'sm_91'", "--asm=sm_90a"]),
        (["--asm=sm_80", "--window=2", "--dropout=0.1"], ["not window and dropout"]),
        (["--asm=sm_80", "--d-head=256"], ["widths up to 128", "--d-head=64"]),
    ],
)
def test_mistakes_in_what_is_compiled(says: Says, assembly: Any, words: list[str], said: list[str]) -> None:
    err = says(*words, code=2, err=True)
    for each in said:
        assert each in err


def test_what_compiling_needs(says: Says, assembly: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)
    assert "with TRITON_INTERPRET" in says("--asm=sm_80", code=3, err=True)
    monkeypatch.setitem(sys.modules, "triton", None)
    err = says("--asm=sm_80", code=3, err=True)
    assert "triton is not installed" in err
    assert "gpt-primer[gpu]" in err
