"""What a format does to training: four lessons, each a tiny GPT trained in several of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from primer.experiments.experiment import Experiment, Variant
from primer.experiments.measures import LOSS
from primer.experiments.seen import SEEN

RECIPE = "tiny"

PASSES = {f"precision.{place}": "fp16" for place in ("matmul", "attention", "activations", "gradients")}
"""Forward and backward pass in fp16; weights and AdamW's state stay fp32."""
KEPT = {f"precision.{place}": "fp16" for place in ("weights", "optimizer")}


def in_bf16(flags: Mapping[str, str]) -> dict[str, str]:
    """The same places in bf16."""
    return dict.fromkeys(flags, "bf16")


def variant(name: str, **flags: Any) -> Variant:
    """A variant whose flags are all of the precision."""
    return Variant(name, {f"precision.{key}": value for key, value in flags.items()})


UNSCALED = {"precision.loss_scaling": "none"}
SCALED = {"precision.loss_scaling": "dynamic"}

FP16 = Experiment(
    name="fp16",
    seen=SEEN["fp16"],
    seeds=5,
    question="Why does training in fp16 die, and what saves it: loss scaling, fp32 master weights, or bf16?",
    recipe=RECIPE,
    measures=(LOSS,),
    base=Variant("fp32"),
    variants=(
        Variant("fp16", {**PASSES, **KEPT, **UNSCALED}),
        Variant("fp16+scaling", {**PASSES, **KEPT, **SCALED}),
        Variant("fp16+epsilon", {**PASSES, **KEPT, **UNSCALED, "optim.eps": 1e-4}),
        Variant("fp16+epsilon+scaling", {**PASSES, **KEPT, **SCALED, "optim.eps": 1e-4}),
        Variant("fp16+master", {**PASSES, **UNSCALED}),
        Variant("fp16+master+scaling", {**PASSES, **SCALED}),
        Variant("bf16", {**in_bf16(PASSES), **in_bf16(KEPT)}),
        Variant("bf16+master", in_bf16(PASSES)),
    ),
    notes=(
        "master: weights and AdamW's state in fp32, everything that the passes compute in the short format.",
        "scaling: the loss is multiplied before the backward pass, and gradients divided after it.",
        "epsilon: AdamW's is 1e-4, which fp16 can say; else it is 1e-8, which is 0 there.",
    ),
)

SMALL_UPDATES = Experiment(
    name="small-updates",
    seen=SEEN["small-updates"],
    question="Where do updates go that are smaller than half a step of a bf16 weight?",
    recipe=RECIPE,
    measures=(LOSS,),
    base=Variant("fp32"),
    variants=(
        variant("nearest", weights="bf16"),
        variant("stochastic", weights="bf16", weights_rounding="stochastic"),
        variant("toward-zero", weights="bf16", weights_rounding="toward-zero"),
    ),
    flags={"optim.lr": 3e-4, "schedule.shape": "constant"},
    notes=("Only the weights are in bf16, from one step to the next; all else is fp32.",),
)

EPSILON = Experiment(
    name="epsilon",
    seen=SEEN["epsilon"],
    question="What becomes of Adam's epsilon where the optimizer computes in fp16?",
    recipe=RECIPE,
    measures=(LOSS,),
    base=Variant("fp32"),
    variants=tuple(
        Variant(f"{form}-eps={eps:g}", {"precision.optimizer": form, "optim.eps": eps} | UNSCALED)
        for form, eps in (
            ("bf16", 1e-8),
            ("fp16", 1e-8),
            ("fp16", 1e-7),
            ("fp16", 1e-6),
            ("fp16", 1e-5),
            ("fp16", 1e-4),
        )
    ),
    notes=(
        "Only AdamW computes in the format: its moments, their roots, and epsilon. The base has eps=1e-08.",
    ),
)

FORMATS = Experiment(
    name="formats",
    seen=SEEN["formats"],
    seeds=5,
    question="How well does the same GPT train when its products read each of the formats?",
    recipe=RECIPE,
    measures=(LOSS,),
    base=Variant("fp32"),
    variants=(
        variant("tf32", matmul="tf32"),
        variant("bf16", matmul="bf16"),
        variant("fp16", matmul="fp16", loss_scaling="none"),
        variant("fp16+scaling", matmul="fp16", loss_scaling="dynamic"),
        variant("fp8", matmul="e4m3", scaling="none"),
        variant("fp8-tensor", matmul="e4m3", scaling="tensor"),
        variant("fp8-row", matmul="e4m3", scaling="row"),
        variant("fp8-e5m2", matmul="e4m3", matmul_gradients="e5m2", scaling="none"),
        variant("mxfp8", matmul="mxfp8"),
        variant("mxfp4", matmul="mxfp4"),
        variant("mxfp4-ceil", matmul="mxfp4", scale_rule="ceil"),
        variant("mxfp4-stochastic", matmul="mxfp4", gradients_rounding="stochastic"),
        variant("nvfp4", matmul="nvfp4"),
        variant("nvfp4-stochastic", matmul="nvfp4", gradients_rounding="stochastic"),
    ),
    notes=(
        "What goes into the products of the layers' linear maps is in the format, forwards and backwards.",
        "tensor, row: a scale each. stochastic: of gradients. e5m2: of gradients. ceil: no block is clipped.",
    ),
)

EXPERIMENTS = (FP16, SMALL_UPDATES, EPSILON, FORMATS)
