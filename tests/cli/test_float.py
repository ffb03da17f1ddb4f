"""`primer float`, as a person types it."""

import json
from pathlib import Path

import pytest
import torch

import primer
from primer.cli.main import main
from primer.floats.formats import BLOCKS, FORMATS, INTEGERS
from primer.recipes.report import Silence
from setups import TINY, TINY_PAIRS, reversed_digits


def said_by(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["float", *argv]) == code
    return capsys.readouterr()


def test_a_number_bit_by_bit(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said_by(capsys, "0.1", "--format=bf16")
    for line in (
        "  0 01111011 1001101    0x3dcd",
        "  +2^(123 − 127) · (1 + 77/128)",
        "= 0.10009765625",
        "  off by +0.2 ulp (of 0.00048828125), 0.10%",
        "  below: 0.099609375  0x3dcc",
        "  above: 0.1005859375  0x3dce",
    ):
        assert line in out.splitlines()
    table = {line.split()[0]: line for line in out.splitlines() if line.split()[:1]}
    for name in (*FORMATS, *INTEGERS):
        assert name in table
    assert "1 01111011" not in table["bf16"]
    assert "0 0011 101" in table["e4m3"]
    assert "\x1b" not in out  # no colour into a pipe


def test_all_of_it_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said_by(capsys, "1/3", "--format=fp16", "--json")[0])
    assert (told["code"], told["value"], told["error"]) == ("0x3555", "0.333251953125", "-1/12288")
    assert told["below"] == {"code": "0x3554", "value": "0.3330078125"}
    assert {each["format"] for each in told["formats"]} == {*FORMATS, *INTEGERS}


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["nan", "--format=e4m3"], "  0 1111 111    0x7f"),
        (["-0", "--format=fp16"], "  1 00000 0000000000    0x8000"),
        (["1000", "--format=e4m3"], "= 448"),
        (["1000", "--format=e4m3", "--overflow=ieee"], "  0 1111 111    0x7f"),
        (["1e-9", "--format=e4m3"], "= 0"),
        (["0.1", "--format=e4m3", "--rounding=up"], "= 0.1015625"),
        (["0.1", "--format=e4m3", "--rounding=down"], "= 0.09375"),
        (["0.1", "--format=e3m4"], "  0 000 0110    0x06"),
        (["--code=0x7f800001"], "= nan(0x1)"),
        (["--code=0b0011", "--format=e2m1"], "= 1.5"),
        (["3", "--format=int4"], "  0 011    0x3"),
        (["-inf", "--format=bf16"], "  −infinity"),
    ],
)
def test_what_a_number_becomes(capsys: pytest.CaptureFixture[str], argv: list[str], line: str) -> None:
    assert line in said_by(capsys, *argv)[0].splitlines()


def test_every_code_of_a_format(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said_by(capsys, "--table=e2m1")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [float(row[4]) for row in rows] == [
        0,
        0.5,
        1,
        1.5,
        2,
        3,
        4,
        6,
        -0.0,
        -0.5,
        -1,
        -1.5,
        -2,
        -3,
        -4,
        -6,
    ]
    told = json.loads(said_by(capsys, "--table=e4m3", "--json")[0])
    assert len(told) == 256
    assert told[0x7E] == {"code": "0x7e", "bits": "0 1111 110", "value": "448", "kind": "the largest"}


def test_the_list_of_formats(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said_by(capsys, "--formats")
    names = [line.split()[0] for line in out.splitlines() if line.strip()]
    for name in (*FORMATS, *INTEGERS, *BLOCKS):
        assert name in names
    told = {each["name"]: each for each in json.loads(said_by(capsys, "--formats", "--json")[0])}
    assert told["bf16"]["mantissa_bits"] == 7
    assert told["nvfp4"]["bits"] == 4.5


@pytest.mark.parametrize(
    ("argv", "cause", "hint"),
    [
        ([], "primer float needs a number", "primer float 0.1"),
        (["x"], "'x' is not a number", "0.1, 1e-3"),
        (["1e999999999"], "no format here reaches", "5000 digits"),
        (["0.1", "--format=e5m0"], "no mantissa", "e5m1"),
        (["0.1", "--format=e12m3"], "more bits than fp64", "e11m3"),
        (["0.1", "--format=fp61"], "unknown number format", "fp6"),
        (["0.1", "--format=mxfp4"], "32 numbers at once", "e2m1"),
        (["--table=fp32"], "4,294,967,296 codes", "primer float 0.1 --format=fp32"),
        (["--code=0xgg"], "'0xgg' is not a code", "--code=0x3dcd"),
        (["--code=0x100", "--format=e4m3"], "0x100 is no code of e4m3", "0x0 to 0xff"),
        (["1", "--code=0x1"], "a number or a --code", "primer float --code=0x1"),
        (["1", "--rounding=stochastic"], "one draw says little", "--rounding=up"),
        (["--tensor=x"], "look into a run", "--run=latest"),
        (["--run=latest", "--index=3"], "--index needs --tensor", "lists them"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], argv: list[str], cause: str, hint: str) -> None:
    _, err = said_by(capsys, *argv, code=2)
    assert cause in err
    assert hint in err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("float")
    file = folder / "table.txt"
    file.write_text(
        "\n".join(f"{a} times {b} is {a * b}." for a in range(11) for b in range(11)), encoding="utf-8"
    )
    return primer.train(file, flags=TINY, runs_dir=folder / "runs", reporter=Silence()).path


def test_a_weight_of_a_run(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    weights = dict(primer.load(trained).model.named_parameters())
    out, _ = said_by(capsys, f"--run={trained}")
    for name, p in weights.items():
        assert f"{name} " in out
        assert " × ".join(map(str, p.shape)) in out
    name = "layers.0.attention.qkv.weight"
    told = json.loads(said_by(capsys, f"--run={trained}", f"--tensor={name}", "--index=0,3", "--json")[0])
    assert float(told["value"]) == float(weights[name].detach()[0, 3])
    assert name in said_by(capsys, f"--run={trained}", f"--tensor={name}", "--index=-1,0")[0]
    _, err = said_by(capsys, f"--run={trained}", "--tensor=layers.0.attention.qkv.weigh", code=2)
    assert f"--tensor={name}" in err
    _, err = said_by(capsys, f"--run={trained}", f"--tensor={name}", "--index=99", code=2)
    assert "--index=47,15" in err


def test_a_tensor_in_every_format(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    name = "layers.0.attention.qkv.weight"
    x = dict(primer.load(trained).model.named_parameters())[name].detach()
    told = json.loads(said_by(capsys, f"--run={trained}", f"--tensor={name}", "--json")[0])
    rows = {each["format"]: each for each in told["formats"]}
    off = (x.to(torch.float8_e5m2).float() - x).square().mean() / x.square().mean()
    assert rows["e5m2"]["noise"] == pytest.approx(float(off.sqrt()), rel=1e-4)
    assert rows["bf16"]["noise"] < rows["mxfp8"]["noise"] < rows["nvfp4"]["noise"] < rows["mxfp4"]["noise"]
    assert "mxfp4" in said_by(capsys, f"--run={trained}", f"--tensor={name}")[0]


def test_the_exponents_of_a_run(capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path) -> None:
    picture = tmp_path / "exponents.svg"
    out, err = said_by(capsys, f"--run={trained}", "--histogram", "--tokens=64", f"--plot={picture}")
    for word in ("weights", "activations", "gradients of activations", "e4m3", "━", "all fit"):
        assert word in out
    assert str(picture) in err
    assert picture.stat().st_size > 1000
    told = json.loads(said_by(capsys, f"--run={trained}", "--histogram", "--tokens=64", "--json")[0])
    weights = sum(p.numel() for p in primer.load(trained).model.parameters())
    assert sum(told["weights"]["exponents"].values()) + told["weights"]["zeros"] == weights
    parts = told["gradients of weights"]["formats"]["e2m1"]
    assert 0 < parts["zero"] <= 1


def test_the_exponents_of_a_run_that_translates(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = {**TINY_PAIRS, "data.source": str(reversed_digits(tmp_path))}
    run = primer.train("translation", flags=flags, runs_dir=tmp_path / "runs", reporter=Silence())
    out, _ = said_by(capsys, f"--run={run.path}", "--histogram", "--tokens=200")
    assert "gradients of weights" in out
