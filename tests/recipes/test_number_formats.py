"""Whole runs in number formats: what is kept, what is resumed, what is scored, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

import primer
from primer.errors import DivergedError, UsageError
from primer.floats.native import DTYPES
from primer.floats.tensor import quantize
from primer.nn.in_format import LinearInFormat
from primer.recipes.report import Silence
from primer.recipes.resolve import resolve
from primer.training import checkpoint
from primer.training.config import NATIVE, PrecisionConfig
from primer.training.precision import products
from setups import TINY, TINY_PAIRS, reversed_digits

PLAIN = {"optim.name": "adamw", "train.weight_average": 0.0, "schedule.shape": "constant"}
ALL = ("matmul", "attention", "activations", "gradients", "weights", "optimizer")


def flags(**precision: Any) -> dict[str, Any]:
    return {**TINY, **PLAIN, **{f"precision.{key}": value for key, value in precision.items()}}


class Heard:
    """Keeps what it is told in words, and what a run says of itself."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.info: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(Silence(), name)

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_start(self, info: Any) -> None:
        self.info = dict(info)


def losses(run: primer.Run) -> list[float]:
    return [row["loss"] for row in run.metrics() if "loss" in row]


def trained(text: Path, where: Path, **precision: Any) -> primer.Run:
    return primer.train(text, flags=flags(**precision), runs_dir=where, reporter=Silence())


def test_fp32_changes_nothing(text_file: Path, tmp_path: Path) -> None:
    """The way through layers, probes and AdamW that formats take, with the one that rounds nothing."""
    plain = trained(text_file, tmp_path, weights="fp32")
    through = trained(text_file, tmp_path, **dict.fromkeys(ALL, "fp32"))
    assert losses(through) == pytest.approx(losses(plain), rel=1e-5)


@pytest.mark.parametrize("place", ["matmul", "attention", "activations", "gradients", "weights", "optimizer"])
def test_every_place_makes_a_difference(place: str, text_file: Path, tmp_path: Path) -> None:
    form = "bf16" if place == "optimizer" else "e5m2"  # where its epsilon is not 0
    plain, short = losses(trained(text_file, tmp_path)), losses(trained(text_file, tmp_path, **{place: form}))
    assert short != plain
    assert short == pytest.approx(plain, abs=0.5)  # and still learns


def test_weights_live_in_their_format_from_the_first_step_on(text_file: Path, tmp_path: Path) -> None:
    run = trained(text_file, tmp_path, weights="bf16", optimizer="bf16")
    for path in checkpoint.every(run.directory.checkpoints):
        saved = checkpoint.load(path)
        moments = {name: tensor for name, tensor in saved.optim.items() if name.endswith("moment")}
        for name, tensor in {**saved.model, **moments}.items():
            assert torch.equal(tensor, quantize(tensor, "bf16")), name


def test_resuming_is_never_having_stopped_by_chance_too(text_file: Path, tmp_path: Path) -> None:
    how = {
        "matmul": "mxfp4",
        "gradients_rounding": "stochastic",
        "weights": "bf16",
        "weights_rounding": "stochastic",
    }
    whole = trained(text_file, tmp_path, **how)
    part = primer.train(
        text_file, flags=flags(**how) | {"train.steps": 8}, runs_dir=tmp_path, reporter=Silence()
    )
    resumed = primer.resume(part, flags={"train.steps": 12}, reporter=Silence())
    a, b = (
        checkpoint.load(checkpoint.step_directory(run.directory.checkpoints, 12)).model
        for run in (whole, resumed)
    )
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_is_scored_in_its_own_formats(text_file: Path, tmp_path: Path) -> None:
    run = trained(text_file, tmp_path, matmul="e2m1")
    assert any(isinstance(module, LinearInFormat) for module in run.model.modules())
    last = [row["val_loss"] for row in run.metrics() if "val_loss" in row][-1]
    latest = primer.load(run.path, checkpoint="latest")
    assert latest.evaluate()["loss"] == pytest.approx(last, rel=1e-5)
    assert isinstance(run.generate("two", tokens=3), str)


def test_fp16_everywhere_dies_and_says_what_may_help(text_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DivergedError) as caught:
        trained(text_file, tmp_path, **dict.fromkeys(ALL, "fp16"), loss_scaling="none")
    assert "precision" in (caught.value.hint or "")


def test_scaled_losses_are_noticed(text_file: Path, tmp_path: Path) -> None:
    run = trained(text_file, tmp_path, matmul="fp16", gradients="fp16")
    state = checkpoint.load(checkpoint.newest(run.directory.checkpoints)).state
    assert state["scaler"]["dynamic"]
    fixed = trained(text_file, tmp_path, matmul="e5m2", loss_scaling="static", loss_scale=128.0)
    state = checkpoint.load(checkpoint.newest(fixed.directory.checkpoints)).state
    assert (state["scaler"]["scale"], state["scaler"]["dynamic"]) == (128.0, False)


def test_blocks_that_do_not_divide_say_so(text_file: Path, tmp_path: Path) -> None:
    heard = Heard()
    primer.train(text_file, flags=flags(matmul="mxfp8"), runs_dir=tmp_path, reporter=heard)
    assert any(
        "mxfp8 has blocks of 32: the last ones of rows of 16 and 48 are filled up with zeros" in text
        for text in heard.messages
    )
    assert heard.info["formats"] == "matmul mxfp8"


def test_an_encoder_decoder_trains_in_formats_too(tmp_path: Path) -> None:
    how = {**TINY_PAIRS, "data.source": str(reversed_digits(tmp_path)), "train.evaluate_pairs": 0}
    plain, short = (
        primer.train("translation", flags={**how, **more}, runs_dir=tmp_path / "runs", reporter=Silence())
        for more in ({}, {"precision.matmul": "e4m3", "precision.activations": "bf16"})
    )
    assert losses(short) != losses(plain)
    assert losses(short) == pytest.approx(losses(plain), abs=0.3)


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        ("matmul", "e4m4x", "precision.matmul: unknown number format"),
        ("matmul", "e5m0", "precision.matmul: e5m0 has no mantissa"),
        ("matmul", "fp64", "precision.matmul: numbers are held in fp32"),
        ("weights", "mxfp4", "precision.weights: mxfp4 shares scales"),
        ("matmul_gradients", "e5m2", "precision.matmul_gradients needs precision.matmul"),
        ("accumulator", "fp16", "precision.accumulator needs precision.matmul"),
        ("accumulator", "int8", "precision.accumulator: sums need an exponent"),
        ("weights", "e8m0", "precision.weights: e8m0 has no sign"),
        ("gradients_rounding", "stochastic", "precision.gradients_rounding needs precision.matmul"),
        ("weights_rounding", "stochastic", "precision.weights_rounding needs precision.weights"),
        ("scale_rule", "ceil", "precision.scale_rule is for blocks"),
        ("native", "on", "precision.native=on: devices multiply e4m3 and e5m2"),
        ("loss_scale", 0.0, "precision.loss_scale must be a positive number"),
        ("scaling", "column", "precision.scaling"),
        ("matmull", "e4m3", "precision.matmull"),
    ],
)
def test_what_cannot_be_meant_is_refused(key: str, value: Any, cause: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("tiny", flags={f"precision.{key}": value})
    assert cause in caught.value.cause
    assert caught.value.hint


@pytest.mark.parametrize(
    "flags",
    [
        {"matmul": "mxfp4", "scaling": "row"},
        {"matmul": "mxfp4", "native": "on"},
        {"matmul": "nvfp4", "scale_rule": "ceil"},
        {"matmul": "e4m3", "scaling": "row", "native": "on"},
    ],
)
def test_what_would_change_nothing_is_refused(flags: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="precision") as caught:
        PrecisionConfig(**flags)
    assert caught.value.hint


def test_each_format_has_the_scales_that_it_needs() -> None:
    """Wide ones none, blocks their own, short ones one a tensor."""
    for matmul, gradients, scales in (
        ("e4m3", "", ("tensor", "tensor")),
        ("bf16", "e4m3", ("none", "tensor")),
        ("e4m3", "bf16", ("tensor", "none")),
        ("mxfp8", "e5m2", ("none", "tensor")),
        ("e5m2", "mxfp4", ("tensor", "none")),
    ):
        made = products(PrecisionConfig(matmul=matmul, matmul_gradients=gradients))
        assert (made.scaling, made.gradients_scaling) == scales
    assert PrecisionConfig(matmul="mxfp8", matmul_gradients="e5m2", scaling="row").in_words() == (
        "matmul mxfp8, matmul gradients e5m2 (a scale a row)"
    )
    small = torch.full((4, 32), 1e-6)
    assert products(PrecisionConfig(matmul="mxfp8", matmul_gradients="e5m2")).gradient(small, -1).all()


def test_what_is_set_is_said() -> None:
    said = PrecisionConfig(
        matmul="mxfp4", gradients_rounding="stochastic", weights="fp16", weights_rounding="stochastic"
    ).in_words()
    assert said == (
        "matmul mxfp4, weights fp16 (stochastic), gradients of products rounded stochastic, "
        "loss times 65536 at first"
    )
    assert set(NATIVE) == DTYPES.keys()


def test_a_format_for_the_optimizer_is_for_adamw() -> None:
    with pytest.raises(UsageError, match="is for AdamW") as caught:
        resolve("shakespeare", flags={"precision.optimizer": "bf16"})
    assert caught.value.hint == "--optim.name=adamw"
