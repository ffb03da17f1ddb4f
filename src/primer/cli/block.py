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
    """The scale of numbers of fp32, its code, and the codes and values of what is left of them (`encode_blocks`)."""
    import torch

    from primer.floats.encoded import encode_blocks

    x = torch.tensor([float(number) for number in numbers], dtype=torch.float32)
    stored = encode_blocks(x, form)
    scale, shared = int(stored.scales[0]), None if stored.shared is None else float(stored.shared)
    codes = stored.codes[0].tolist()[: len(numbers)]
    times = float(codec.decode(scale, form.scale)) * (1.0 if shared is None else shared)
    return {
        "format": form.name,
        "scale": exact(codec.value(times)),
        "scale_code": bits.hexadecimal(scale, form.scale),
        "scale_bits": " ".join(text for _, text in bits.parts(scale, form.scale)),
        "tensor_scale": shared,
        "numbers": [
            {
                "number": exact(number),
                "divided": float(number) / times if times else 0.0,
                "code": bits.hexadecimal(code, form.element),
                "bits": " ".join(text for _, text in bits.parts(code, form.element)),
                "element": exact(codec.decode(code, form.element)),
                "value": value,
            }
            for number, code, value in zip(numbers, codes, stored.decode().tolist(), strict=True)
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
