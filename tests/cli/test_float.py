"""`primer float`, as a person types it."""

import json
from pathlib import Path

import pytest
import torch

import primer
from primer.cli.main import main
from primer.floats import codec
from primer.floats.formats import BLOCKS, FORMATS, INTEGERS
from primer.floats.tensor import quantize
from primer.recipes.numbers import validation
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
        "  off by +0.2 ulp (of 0.00048828125), 0.098%",
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
        (["3", "--format=int4"], "  0011    0x3"),
        (["-5", "--format=int4"], "  −8 + 3"),
        (["-5", "--format=int4"], "  two's complement"),
        (["--code=0 01111011 1001101", "--format=bf16"], "  0 01111011 1001101    0x3dcd"),
        (["--code=0b0 01111011 1001101", "--format=bf16"], "  0 01111011 1001101    0x3dcd"),
        (["--code=0011", "--format=e2m1"], "= 1.5"),
        (["--code=10", "--format=e4m3"], "= 0.01953125"),
        (["0.1", "--format=fp32"], "  off by +0.2 ulp (of 7.4505806e-09…), 1.5e-06%"),
        (["1e400"], "1e+400 in fp32: IEEE 754 binary32"),
        (["1e-400"], "  off by -7.14e-356 ulp (of 1.4012985e-45…), 100%"),
        (["1e-400", "--rounding=up"], "  off by +1 ulp (of 1.4012985e-45…), 1.4e+357%"),
        (["1e400", "--format=int8"], "  off by -1e+400 ulp (of 1), 100%"),
        (
            ["1.7976931348623157e308", "--format=fp64"],
            "1.7976931e+308… in fp64: IEEE 754 binary64: Python's float",
        ),
        (["nan"], "nan in fp32: IEEE 754 binary32"),
        (["nan"], "= nan(0x400000)"),
        (["-nan"], "-nan in fp32: IEEE 754 binary32"),
        (["−nan"], "= -nan(0x400000)"),
        (["-nan(0x123)"], "-nan(0x123) in fp32: IEEE 754 binary32"),
        (["-nan(0x123)"], "  1 11111111 00000000000000100100011    0xff800123"),
        (["nan(0x7)", "--format=e4m3"], "  0 1111 111    0x7f"),
        (["nan", "--format=e4m3fnuz"], "= nan"),
        (["-inf", "--format=bf16"], "  −infinity"),
    ],
)
def test_what_a_number_becomes(capsys: pytest.CaptureFixture[str], argv: list[str], line: str) -> None:
    assert line in said_by(capsys, *argv)[0].splitlines()


def test_numbers_beyond_all_formats_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Text where float64 has no such number; strict JSON, without infinities."""
    told = json.loads(said_by(capsys, "1e-400", "--rounding=up", "--json")[0])
    assert told["number"].startswith("1/1000")
    rows = {each["format"]: each for each in told["formats"]}
    assert rows["int8"]["relative_error"] == "1e+400"
    assert rows["int8"]["error_in_ulp"] == 1
    told = json.loads(said_by(capsys, "1e-4500", "--json")[0])
    assert (told["number"], told["error"], told["relative_error"]) == ("1e-4500", "-1e-4500", 1.0)
    assert told["error_in_ulp"].endswith("e-4456")


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("1e4500", "1e+4500 in fp32"),
        ("-1e-4500", "-1e-4500 in fp32"),
        ("0x" + "f" * 4900, "1.5413988e+5900… in fp32"),
        ("9" * 4000 + "e4000", "1e+8000… in fp32"),
        ("0x1p-4999", "1.4159623e-1505… in fp32"),
    ],
)
def test_more_digits_than_python_prints(capsys: pytest.CaptureFixture[str], text: str, head: str) -> None:
    assert said_by(capsys, text)[0].startswith(head)
    assert json.loads(said_by(capsys, text, "--json", "--overflow=saturate")[0])["format"] == "fp32"


def test_a_sign_of_nan_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said_by(capsys, "-nan", "--format=fp16", "--json")[0])
    assert (told["number"], told["value"], told["code"]) == ("-nan", "-nan(0x200)", "0xfe00")
    rows = {each["format"]: each["value"] for each in told["formats"]}
    assert rows["e4m3fnuz"] == "nan", "whose one NaN has no sign"


def test_what_is_printed_of_a_nan_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    for code in ("0x7f800001", "0xffc00000", "0x7fffffff"):
        value = json.loads(said_by(capsys, f"--code={code}", "--json")[0])["value"]
        assert json.loads(said_by(capsys, value, "--json")[0])["code"] == code


def test_both_outcomes_of_rounding_by_chance(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said_by(capsys, "0.1", "--format=e4m3", "--rounding=stochastic")
    lines = out.splitlines()
    assert lines[2:4] == [
        "  0 0011 101    0x1d    0.1015625  80%",
        "  0 0011 100    0x1c    0.09375  20%",
    ]
    for number in ("0.1", "-300", "1e-9", "0.3", "-0"):
        told = json.loads(said_by(capsys, number, "--rounding=stochastic", "--json")[0])
        for each in told["formats"]:
            found = [(float(one["value"]), one["probability"]) for one in each["outcomes"]]
            assert sum(p for _, p in found) == pytest.approx(1)
            if each["format"] != "e8m0" and abs(float(number)) < FORMATS["e2m1"].largest:
                assert sum(x * p for x, p in found) == pytest.approx(float(number)), "the mean is right"
    told = json.loads(
        said_by(capsys, "460", "--rounding=stochastic", "--overflow=ieee", "--format=e4m3", "--json")[0]
    )
    assert [(each["value"], each["probability"]) for each in told["outcomes"]] == [
        ("448", 0.625),
        ("nan(0x7)", 0.375),
    ]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_numbers_as_tensors_are_rounded(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Scale, codes and values are those of `quantize`."""
    for numbers in (
        ["1", "2.5", "-3", "0.1", "-7.5"],
        ["0", "0"],
        ["1e-45", "3e-45"],
        ["3e38", "-1e30", "7"],
    ):
        told = json.loads(said_by(capsys, *numbers, f"--format={name}", "--json")[0])
        found = quantize(torch.tensor([float(each) for each in numbers]), name)
        assert [each["value"] for each in told["numbers"]] == found.tolist()
        form = BLOCKS[name]
        scale = float(codec.decode(int(told["scale_code"], 16), form.scale))
        assert float(told["scale"]) == pytest.approx(scale * (told["tensor_scale"] or 1))
        for each in told["numbers"]:
            value = float(codec.decode(int(each["code"], 16), form.element))
            assert (float(each["element"]), each["value"]) == (
                value,
                pytest.approx(value * float(told["scale"])),
            )
    out, _ = said_by(capsys, "1", "2", "3", "0.1", "-7.5", f"--format={name}")
    assert [line.split()[0] for line in out.splitlines()[-5:]] == ["1", "2", "3", "0.1", "-7.5"]


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
    told = json.loads(said_by(capsys, "--table=int4", "--json")[0])
    assert [each["bits"] for each in told] == [f"{code:04b}" for code in range(16)]
    assert {each["kind"]: each["value"] for each in told if each["kind"]} == {
        "zero": "0",
        "the largest": "7",
        "the lowest": "-8",
    }
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
        (["--code=0x1", "--format=mxfp4"], "32 numbers at once", "e2m1"),
        (["1", "2"], "one argument too many: '2'", "--format=mxfp4"),
        (["1", "2", "--format=mxfp4", "--rounding=up"], "--rounding goes with a number", "not with a block"),
        (["inf", "2", "--format=mxfp4"], "inf is no number of fp32", "no scale"),
        ([*["1"] * 17, "--format=nvfp4"], "a block of nvfp4 is 16 numbers, not 17", ""),
        (["--table=fp32"], "4,294,967,296 codes", "primer float 0.1 --format=fp32"),
        (["--code=0xgg"], "'0xgg' is not a code", "--code=0x3dcd"),
        (["--code=0x100", "--format=e4m3"], "0x100 is no code of e4m3", "0x0 to 0xff"),
        (["--code=0 0111 1011", "--format=e4m3"], "9 bits, and a code of e4m3 8", "--format"),
        (["1", "--code=0x1"], "a number or --code, not both", "primer float --code=0x1"),
        (["0.1", "--table=e2m1"], "a number or --table", "primer float --table=e2m1"),
        (["--formats", "0.1"], "a number or --formats", "primer float --formats"),
        (["--run=latest", "0.1"], "a number or --run", "primer float --run=latest"),
        (["--run=latest", "--code=0x3"], "--code or --run", "primer float --run=latest"),
        (["0.1", "--plot=x.png"], "--plot goes with --histogram, not with a number", "--histogram --plot"),
        (["0.1", "--tokens=5"], "--tokens goes with --histogram", "--histogram --tokens"),
        (["0.1", "--runs-dir=x"], "--runs-dir goes with --run", "--run=latest"),
        (["--table=e2m1", "--format=e4m3"], "--format goes with a number", "not with --table"),
        (["--run=latest", "--plot=x.png"], "goes with --histogram, not with --run alone", "--histogram"),
        (["--run=latest", "--histogram", "--tensor=x"], "not with --histogram", "lists"),
        (["--tensor=x"], "--tensor goes with --run", "--run=latest"),
        (["--run=latest", "--index=3"], "--index goes with --tensor", "lists"),
        (["nan(0x800000)"], "no NaN of fp32", "nan(0x1) to nan(0x7fffff)"),
        (["nan(0x0)"], "no NaN of fp32", "nan(0x1) to nan(0x7fffff)"),
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
    scale = x.abs().max() / 127
    off = ((x / scale).round() * scale - x).square().mean() / x.square().mean()
    assert rows["int8"]["scaled_noise"] == pytest.approx(float(off.sqrt()), rel=1e-4)
    out, _ = said_by(capsys, f"--run={trained}", f"--tensor={name}", "--format=e3m4")
    assert [line.split()[0] for line in out.splitlines()[3:-2]] == [*rows, "e3m4"]
    _, err = said_by(capsys, f"--run={trained}", f"--tensor={name}", "--format=e8m0", code=2)
    assert "e8m0 has no sign" in err
    by_chance = json.loads(
        said_by(capsys, f"--run={trained}", f"--tensor={name}", "--rounding=stochastic", "--json")[0]
    )["formats"]
    assert all(each["noise"] > rows[each["format"]]["noise"] for each in by_chance[3:10])


def test_a_tied_head_goes_by_both_of_its_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("one two three four five six seven\n" * 40, encoding="utf-8")
    flags = {**TINY, "model.tied_head": True, "model.zero_init_head": False}
    run = primer.train(file, flags=flags, runs_dir=tmp_path / "runs", reporter=Silence())
    out, _ = said_by(capsys, f"--run={run.path}", "--tensor=head.weight", "--index=0,3", "--json")
    assert float(json.loads(out)["value"]) == float(run.gpt.token_embedding.weight.detach()[0, 3])
    assert "the same as token_embedding.weight" in said_by(capsys, f"--run={run.path}")[0]
    listed = json.loads(said_by(capsys, f"--run={run.path}", "--json")[0])
    assert {each["tensor"]: each.get("same_as") for each in listed}["head.weight"] == "token_embedding.weight"
    told = json.loads(said_by(capsys, f"--run={run.path}", "--histogram", "--tokens=64", "--json")[0])[
        "weights"
    ]
    assert sum(told["exponents"].values()) + told["zeros"] == sum(p.numel() for p in run.model.parameters())


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
    assert "of 64 tokens" in out
    assert "the mean loss over 128 positions, a batch of the run; no loss scale" in out
    everything, _ = said_by(capsys, f"--run={trained}", "--histogram", "--tokens=1000000")
    assert "1,000,000" not in everything


def test_where_a_picture_cannot_go_is_said_at_once(
    capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("primer.recipes.run.load", None)  # nothing is opened before
    for file, cause in (
        (tmp_path / "none" / "x.png", "there is no folder"),
        (tmp_path, "writes .png or .svg"),
    ):
        _, err = said_by(capsys, f"--run={trained}", "--histogram", f"--plot={file}", code=2)
        assert cause in err


def test_batches_are_those_of_the_run(trained: Path) -> None:
    run = primer.load(trained)
    size, _, batches = validation(run, 40)
    assert (size, [part for _, part in batches]) == (128, [32 / 128, 8 / 128])
    size, _, batches = validation(run, 10_000)
    whole = [part for _, part in batches if part == 1]
    assert size == 128
    assert len(whole) == sum(batch.tokens(1) for batch, _ in batches) // 128
    assert all(part <= 1 for _, part in batches)


def test_the_exponents_of_a_run_that_translates(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = {**TINY_PAIRS, "data.source": str(reversed_digits(tmp_path))}
    run = primer.train("translation", flags=flags, runs_dir=tmp_path / "runs", reporter=Silence())
    out, _ = said_by(capsys, f"--run={run.path}", "--histogram", "--tokens=200")
    assert "gradients of weights" in out
    assert "the mean loss over 120 positions" in out
    size, _, batches = validation(run, 200)
    assert size == 120
    assert all(part == 1 for _, part in batches)
    assert len(batches) > 1
    assert f"of {sum(batch.tokens(1) for batch, _ in batches)} tokens" in out, "as many as there are"
    assert all(0 < part <= 0.25 for _, part in validation(run, 30)[2])
