"""Numbers that share a scale, for `primer float 1 2 3 --format=mxfp4`: the scale, and the code of each number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from primer.cli import bits
from primer.cli.digits import exact, short
from primer.errors import UsageError
from primer.floats import codec
from primer.floats.codec import Value
from primer.floats.formats import FORMATS, BlockFormat, named

if TYPE_CHECKING:
    from primer.cli.float import Options


def of_block(words: Sequence[str], options: Options) -> int:
    """One block; the numbers that it lacks are zeros."""
    form = cast(BlockFormat, named(options.format))
    if len(words) > form.block:
        raise UsageError(f"a block of {form.name} is {form.block} numbers, not {len(words)}", "primer float")
    numbers = [codec.quantize(word, FORMATS["fp32"]) for word in words]
    for word, number in zip(words, numbers, strict=True):
        if number.kind != "number":
            raise UsageError(
                f"{word} is no number of fp32, and its block would have no scale", "primer float"
            )
    told = block(numbers, form)
    print(json.dumps(told, ensure_ascii=False) if options.json else in_words(told, words, form))
    return 0


def block(numbers: Sequence[Value], form: BlockFormat) -> dict[str, Any]:
    """The scale of numbers of fp32, its code, and the codes and values of what is left of them: `quantize`'s."""
    import torch

    from primer.floats.blocks import block_scales, nested_scales

    x = torch.tensor([float(number) for number in numbers], dtype=torch.float32)
    largest = x.abs().amax()[None]
    scale = block_scales(largest, form).float()
    shared = float(nested_scales(largest, form)[1]) if form.tensor_scale else 1.0
    code = codec.encode(float(nested_scales(largest, form)[0] if form.tensor_scale else scale), form.scale)
    left = torch.where(scale > 0, x / scale, 0.0).tolist()
    codes = [codec.encode(each, form.element, overflow="saturate") for each in left]
    values = [codec.decode(each, form.element) for each in codes]
    return {
        "format": form.name,
        "scale": exact(codec.value(float(scale))),
        "scale_code": bits.hexadecimal(code, form.scale),
        "scale_bits": " ".join(text for _, text in bits.parts(code, form.scale)),
        "tensor_scale": shared if form.tensor_scale else None,
        "numbers": [
            {
                "number": exact(number),
                "divided": part,
                "code": bits.hexadecimal(each, form.element),
                "bits": " ".join(text for _, text in bits.parts(each, form.element)),
                "element": exact(value),
                "value": float(value) * float(scale),
            }
            for number, part, each, value in zip(numbers, left, codes, values, strict=True)
        ],
    }


def in_words(told: dict[str, Any], words: Sequence[str], form: BlockFormat) -> str:
    """The same for people."""
    code = int(told["scale_code"], 16)
    scale = short(codec.decode(code, form.scale))
    lines = [
        f"a block of {form.name}: {form.about}",
        "",
        f"  {bits.bits(code, form.scale)}    {told['scale_code']}    the scale in {form.scale.name}: {scale}",
    ]
    if form.tensor_scale:
        lines.append(
            f"  and one in fp32 for the whole tensor, of which this is all: {told['tensor_scale']:.8g}"
        )
    rows = [("number", "divided", "bits", "code", form.element.name, "value")]
    for word, each in zip(words, told["numbers"], strict=True):
        element = bits.bits(int(each["code"], 16), form.element)
        divided, value = f"{each['divided']:.6g}", f"{each['value']:.6g}"
        rows.append((word, divided, element, each["code"], each["element"], value))
    return "\n".join([*lines, "", bits.aligned(rows, right={0, 1, 4, 5})])
