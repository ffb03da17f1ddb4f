"""Layers whose products read numbers of a format, against the products written out."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from primer.floats import native as eight
from primer.floats.formats import FORMATS, named
from primer.floats.tensor import quantize
from primer.nn.in_format import LinearInFormat, Products, hand_on

CASES = [
    ("bf16", "none"),
    ("e4m3", "none"),
    ("e4m3", "tensor"),
    ("e4m3", "row"),
    ("mxfp4", "none"),
    ("nvfp4", "none"),
]


def layer(how: Products, inputs: int = 64, outputs: int = 96) -> nn.Linear:
    torch.manual_seed(0)
    linear = nn.Linear(inputs, outputs)
    LinearInFormat.adopt(linear, how)
    return linear


@pytest.mark.parametrize(("name", "scaling"), CASES)
def test_every_product_reads_the_format(name: str, scaling: str) -> None:
    """y = Q(x)·Q(W)ᵀ + b, ∂x = Q(∂y)·Q(W), ∂W = Q(∂y)ᵀ·Q(x): scales are shared along the axis that is summed over."""
    linear = layer(Products(named(name), named(name), scaling=scaling, gradients_scaling=scaling))
    x = torch.randn(5, 32, 64, requires_grad=True)
    g = torch.randn(5, 32, 96) * 1e-3
    y = linear(x)
    y.backward(g)

    def q(t: torch.Tensor, axis: int) -> torch.Tensor:
        return quantize(t.detach(), name, scaling=scaling, axis=axis)

    flat_x, flat_g, w = x.flatten(0, 1), g.flatten(0, 1), linear.weight
    wanted = q(flat_x, -1) @ q(w, -1).T + linear.bias
    torch.testing.assert_close(y.flatten(0, 1), wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(x.grad.flatten(0, 1), q(flat_g, -1) @ q(w, 0), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(w.grad, q(flat_g, 0).T @ q(flat_x, 0), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(linear.bias.grad, flat_g.sum(0))


@pytest.mark.parametrize("scaling", ["none", "tensor"])
@pytest.mark.parametrize("gradients", ["e4m3", "e5m2"])
def test_the_devices_own_products_are_the_emulated_ones(scaling: str, gradients: str) -> None:
    found = []
    for how in ("off", "on"):
        linear = layer(
            Products(
                FORMATS["e4m3"], FORMATS[gradients], scaling=scaling, gradients_scaling=scaling, native=how
            )
        )
        torch.manual_seed(1)
        x, g = torch.randn(48, 64, requires_grad=True), torch.randn(48, 96)
        y = linear(x)
        y.backward(g)
        found.append((y, x.grad, linear.weight.grad, linear.bias.grad))
    for emulated, native in zip(*found, strict=True):
        torch.testing.assert_close(emulated, native, rtol=1e-5, atol=1e-5)


COMPILED = """
import torch
from primer.floats.formats import FORMATS
from primer.nn.in_format import LinearInFormat, Products

torch.manual_seed(0)
linear = torch.nn.Linear(64, 96)
scaled = {"scaling": "tensor", "gradients_scaling": "tensor"}
LinearInFormat.adopt(linear, Products(FORMATS["e4m3"], FORMATS["e5m2"], **scaled, native="on"))
x, g, found = torch.randn(48, 64, requires_grad=True), torch.randn(48, 96), []
for run in (linear, torch.compile(linear, backend="aot_eager", fullgraph=True)):
    found.append(torch.autograd.grad(run(x), (x, linear.weight, linear.bias), g))
assert all(map(torch.equal, *found))
"""


def test_a_compiler_sees_through_the_devices_own_products() -> None:
    """In one graph, with all gradients: torch 2.11's gives zeros where an output is added to in place.

    In a process of its own, where no shapes are checked: the compiler does not see through the checks.
    """
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=200)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpus_own_products_are_the_emulated_ones() -> None:
    """Its sums keep some 14 bits: on Hopper the error of a product is about 2^-13 of its largest term."""
    found = []
    for how in ("off", "auto"):
        linear = layer(
            Products(
                FORMATS["e4m3"], FORMATS["e5m2"], scaling="tensor", gradients_scaling="tensor", native=how
            )
        ).cuda()
        torch.manual_seed(1)
        x, g = torch.randn(48, 64).cuda().requires_grad_(), torch.randn(48, 96).cuda()
        y = linear(x)
        y.backward(g)
        found.append((y, x.grad, linear.weight.grad))
    for emulated, native in zip(*found, strict=True):
        torch.testing.assert_close(emulated, native, rtol=1e-2, atol=2e-2)


def test_only_plain_eight_bit_products_are_the_devices_own() -> None:
    cpu, e4m3, bf16 = torch.device("cpu"), FORMATS["e4m3"], FORMATS["bf16"]
    assert Products(e4m3, e4m3, native="on").by_device(cpu)
    assert not Products(e4m3, e4m3, native="auto").by_device(cpu)
    assert not Products(bf16, bf16, native="on").by_device(cpu)
    assert not Products(e4m3, e4m3, scaling="row", native="on").by_device(cpu)
    assert not Products(e4m3, e4m3, accumulator=bf16, native="on").by_device(cpu)
    assert not Products(e4m3, named("mxfp4"), native="on").by_device(cpu)


def test_no_gpu_multiplies_e5m2_by_e5m2(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 7)
    monkeypatch.setitem(eight._able, gpu, True)
    e4m3, e5m2 = FORMATS["e4m3"], FORMATS["e5m2"]
    assert Products(e4m3, e5m2, native="auto").by_device(gpu)
    assert not Products(e5m2, e4m3, native="auto").by_device(gpu)
    assert Products(e5m2, e5m2, native="on").by_device(torch.device("cpu"))


def test_gradients_may_have_a_format_of_their_own() -> None:
    linear = layer(Products(FORMATS["e4m3"], FORMATS["e5m2"]))
    x, g = torch.randn(32, 64, requires_grad=True), torch.randn(32, 96) * 1e-4
    linear(x).backward(g)
    wanted = quantize(g, "e5m2") @ quantize(linear.weight.detach(), "e4m3")
    torch.testing.assert_close(x.grad, wanted)
    assert quantize(g, "e4m3").count_nonzero() == 0  # in E4M3 nothing would be left of them


@pytest.mark.parametrize(("inputs", "gradients"), [("e4m3", "mxfp4"), ("mxfp8", "e5m2"), ("e4m3", "e5m2")])
def test_each_product_reads_scales_along_the_axis_that_it_sums_over(inputs: str, gradients: str) -> None:
    """Whether inputs come in blocks, gradients, or neither."""
    linear = layer(
        Products(named(inputs), named(gradients), scaling="none", gradients_scaling="none"),
        inputs=64,
        outputs=96,
    )
    x, g = torch.randn(128, 64, requires_grad=True), torch.randn(128, 96)
    linear(x).backward(g)
    w = linear.weight.detach()
    wanted_x = quantize(g, gradients, axis=-1) @ quantize(w, inputs, axis=0)
    wanted_w = quantize(g, gradients, axis=0).T @ quantize(x.detach(), inputs, axis=0)
    torch.testing.assert_close(x.grad, wanted_x)
    torch.testing.assert_close(linear.weight.grad, wanted_w)


def test_gradients_may_be_rounded_by_chance() -> None:
    linear = layer(Products(FORMATS["e2m1"], FORMATS["e2m1"], gradients_rounding="stochastic"))
    nn.init.ones_(linear.weight)
    x, g = torch.randn(4096, 64, requires_grad=True), torch.full((4096, 96), 0.1)
    linear(x).backward(g)
    assert abs(float(x.grad.mean()) - 9.6) < 0.1  # to the nearest, 0.1 is 0 in E2M1


def test_sums_in_a_short_format_lose_what_is_added_late() -> None:
    usual = layer(Products(FORMATS["fp16"], FORMATS["fp16"]), inputs=4096, outputs=2)
    short = layer(
        Products(FORMATS["fp16"], FORMATS["fp16"], accumulator=FORMATS["fp16"]), inputs=4096, outputs=2
    )
    for linear in (usual, short):
        nn.init.ones_(linear.weight)
        nn.init.zeros_(linear.bias)
    x = torch.ones(1, 4096)
    assert usual(x)[0, 0] == 4096
    assert short(x)[0, 0] == 2048  # 2048 + 1 is 2048 there


def test_a_layer_stays_who_it_is() -> None:
    linear = nn.Linear(64, 96)
    weight, names = linear.weight, list(dict(linear.named_parameters()))
    LinearInFormat.adopt(linear, Products(FORMATS["bf16"], FORMATS["bf16"]))
    assert linear.weight is weight
    assert list(linear.state_dict()) == names


@pytest.mark.parametrize("native", ["off", "on"])
def test_under_autocast_a_product_is_handed_on_in_its_dtype(native: Any) -> None:
    """As `nn.Linear`'s is; what goes into it is rounded to the format alone."""
    linear = layer(Products(FORMATS["e4m3"], FORMATS["e4m3"], scaling="tensor", native=native))
    x = torch.randn(48, 64, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        inside = linear(x)
    assert inside.dtype == torch.bfloat16
    torch.testing.assert_close(inside.float(), linear(x), rtol=2**-7, atol=2**-7)
    inside.sum().backward()
    assert x.grad.dtype == torch.float32


def test_what_is_handed_on_comes_back_in_its_own_format() -> None:
    x = torch.randn(100, requires_grad=True)
    g = torch.randn(100)
    y = hand_on(x, FORMATS["bf16"], FORMATS["e5m2"])
    y.backward(g)
    assert torch.equal(y, quantize(x, "bf16"))
    assert torch.equal(x.grad, quantize(g, "e5m2"))
    x.grad = None
    hand_on(x, FORMATS["bf16"], None).backward(g)
    assert torch.equal(x.grad, g)
