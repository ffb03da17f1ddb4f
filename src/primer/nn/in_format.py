"""Layers whose numbers live in a format: what goes into a product is rounded, forwards and backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from primer.floats import native
from primer.floats.accumulate import matmul
from primer.floats.blocks import ScaleRule, Scaling
from primer.floats.formats import BlockFormat, Element, FloatFormat, Format, Rounding
from primer.floats.tensor import quantize


@dataclass(frozen=True)
class Products:
    """In which formats the three products of a linear map are computed: y = x·Wᵀ, ∂x = ∂y·W, ∂W = ∂yᵀ·x."""

    inputs: Format
    """Of x and W."""
    gradients: Format
    """Of ∂y."""
    scaling: Scaling = "none"
    """Of x and W, where their format brings no scales of its own."""
    gradients_scaling: Scaling = "none"
    """The same of ∂y."""
    scale_rule: ScaleRule = "floor"
    gradients_rounding: Rounding = "nearest"
    accumulator: FloatFormat | None = None
    native: Literal["auto", "on", "off"] = "off"
    """Whether the device multiplies 8-bit numbers itself, where it can. auto: on GPUs."""

    @property
    def inputs_by_axis(self) -> bool:
        """Whether x and W share scales along the axis that is summed over, so that it matters which one that is."""
        return self.scaling == "row" or isinstance(self.inputs, BlockFormat)

    @property
    def gradients_by_axis(self) -> bool:
        """The same of ∂y."""
        return self.gradients_scaling == "row" or isinstance(self.gradients, BlockFormat)

    def by_device(self, device: torch.device) -> bool:
        """Whether the device computes these products itself."""
        wanted = self.native == "on" or (self.native == "auto" and device.type == "cuda")
        by_axis = self.inputs_by_axis or self.gradients_by_axis
        if not wanted or by_axis or self.accumulator is not None:
            return False
        return all(native.can(device, left, self.inputs) for left in (self.inputs, self.gradients))

    def operand(self, x: Tensor, axis: int) -> Tensor:
        """x or W as it goes into a product that sums over `axis`."""
        return quantize(x, self.inputs, scaling=self.scaling, scale_rule=self.scale_rule, axis=axis)

    def gradient(self, g: Tensor, axis: int) -> Tensor:
        """∂y as it goes into a product that sums over `axis`."""
        return quantize(
            g,
            self.gradients,
            self.gradients_rounding,
            scaling=self.gradients_scaling,
            scale_rule=self.scale_rule,
            axis=axis,
        )

    def multiply(self, a: Float[Tensor, "M K"], b: Float[Tensor, "K N"]) -> Float[Tensor, "M N"]:
        """a·b, with the sums in their format."""
        return matmul(a, b, self.accumulator) if self.accumulator else a @ b


def handed_on(device: torch.device) -> torch.dtype:
    """What a product is handed on in: as `nn.Linear`'s, in autocast's dtype where there is one."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return torch.float32


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: Products) -> Tensor:
        dtype = handed_on(x.device)
        with torch.autocast(x.device.type, enabled=False):
            x, weight = x.float(), weight.float()
            rows, w = how.operand(x, -1), how.operand(weight, -1)
            ctx.save_for_backward(*((x, weight) if how.inputs_by_axis else (rows, w)))
            ctx.how = how
            y = how.multiply(rows, w.T)
            return (y if bias is None else y.add_(bias)).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        how, (x, weight) = ctx.how, ctx.saved_tensors
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        with torch.autocast(x.device.type, enabled=False):
            g = grads[0].float()
            rows = how.gradient(g, -1)
            grad_x = grad_weight = None
            if for_x:
                w = how.operand(weight, 0) if how.inputs_by_axis else weight
                grad_x = how.multiply(rows, w)
            if for_weight:
                columns = how.gradient(g, 0) if how.gradients_by_axis else rows
                x = how.operand(x, 0) if how.inputs_by_axis else x
                grad_weight = how.multiply(columns.T, x)
            return grad_x, grad_weight, g.sum(0) if for_bias else None, None


class _NativeLinear(torch.autograd.Function):
    """`_Linear` with what goes into products kept in 8 bits, and multiplied as such.

    Nothing is added in place: torch 2.11's compiler would give such an output no gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: Products) -> Tensor:
        dtype = handed_on(x.device)
        with torch.autocast(x.device.type, enabled=False):
            form = cast(Element, how.inputs)
            rows, w = (native.eight_bits(t.float(), form, how.scaling) for t in (x, weight))
            ctx.save_for_backward(rows.codes, rows.scale, w.codes, w.scale)
            ctx.how, ctx.dtype = how, x.dtype
            y = native.matmul(rows, w, dtype)
            return y if bias is None else y + bias.to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        how, saved = ctx.how, ctx.saved_tensors
        x, w = native.Eight(*saved[:2]), native.Eight(*saved[2:])
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        with torch.autocast(grads[0].device.type, enabled=False):
            form = cast(Element, how.gradients)
            g = native.eight_bits(grads[0].float(), form, how.gradients_scaling, how.gradients_rounding)
            grad_x = native.matmul(g, w.transposed(), ctx.dtype) if for_x else None
            grad_weight = native.matmul(g.transposed(), x.transposed()) if for_weight else None
            return grad_x, grad_weight, grads[0].float().sum(0) if for_bias else None, None


class LinearInFormat(nn.Linear):
    """A linear map whose products read numbers of a format; its weights stay as they are.

    Sums over tokens (∂W), inputs (y) or outputs (∂x): where numbers share scales, each product's operands share them
    along the axis that it sums over, as hardware needs it.
    """

    products: Products

    @classmethod
    def adopt(cls, linear: nn.Linear, products: Products) -> None:
        """Make an ordinary layer one of these where it stands: names, ties and whoever holds it stay the same."""
        linear.__class__ = cls
        cast(LinearInFormat, linear).products = products

    def forward(self, x: Float[Tensor, "*B inputs"]) -> Float[Tensor, "*B outputs"]:
        by_device = self.products.by_device(x.device)
        product = (_NativeLinear if by_device else _Linear).apply
        y = product(x.flatten(0, -2), self.weight, self.bias, self.products)  # type: ignore[no-untyped-call]
        return cast(Tensor, y).unflatten(0, x.shape[:-1])


class _HandOn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, form: Format, gradients: Format | None) -> Tensor:
        ctx.gradients = gradients
        return quantize(x, form)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        g = grads[0]
        return g if ctx.gradients is None else quantize(g, ctx.gradients), None, None


def hand_on(x: Float[Tensor, "*B"], form: Format, gradients: Format | None) -> Float[Tensor, "*B"]:
    """x in a format; its gradient comes back in another one, if at all in any."""
    return cast(Tensor, _HandOn.apply(x, form, gradients))  # type: ignore[no-untyped-call]
