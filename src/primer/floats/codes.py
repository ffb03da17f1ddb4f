"""Tensors of codes: from numbers that are a format's own, back to them, and side by side in bytes."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Float64, Int64, Integer, UInt8
from torch import Tensor

from primer.errors import UsageError
from primer.floats import codec
from primer.floats.formats import Element, FloatFormat, IntFormat
from primer.floats.words import FP64

TABLE = 16
"""Formats of so many bits are decoded by looking their codes up."""

LAYOUT = {
    torch.float64: (torch.int64, 52),
    torch.float32: (torch.int32, 23),
    torch.float16: (torch.int16, 10),
    torch.bfloat16: (torch.int16, 7),
}
"""Of a dtype, the integers with as many bits, and the bits of its mantissa."""


def to_codes(x: Tensor, form: Element) -> Integer[Tensor, "*N"]:
    """The codes of numbers that are a format's own; of NaN as much of the payload as there is room for.

    uint8 for formats of up to 8 bits, int32 up to 31, else int64. UsageError for NaN where the format has none.
    """
    x = recast(x, torch.float64)  # a number that is normal in its format is normal there, too
    if not form.has_nan and bool(x.isnan().any()):
        raise UsageError(f"{form.name} has no code for NaN", hint="a format that has one: e4m3, fp16")
    if isinstance(form, IntFormat):
        return (x * 2.0**form.fraction_bits).long().bitwise_and_((1 << form.bits) - 1).to(holder(form))
    bits = x.contiguous().view(torch.int64)
    a, P, M = bits & torch.iinfo(torch.int64).max, 52, form.mantissa_bits
    size = x.abs()
    least = form.least_exponent + 1023  # its field in fp64
    normal = (a >> (P - M)) - (least - form.subnormals << M)
    codes = torch.where(size < float(form.smallest_normal), (size / float(form.smallest)).long(), normal)
    codes = torch.where(size == torch.inf, form.last_number + 1, codes)
    codes |= torch.where(bits < 0, codec.sign_bit(form), 0) if form.bits < 64 else bits & ~a
    nan = x.isnan()
    if form.has_nan and bool(nan.any()):
        codes = torch.where(nan, _nan_codes(a, bits < 0, form), codes)
    return codes.to(holder(form))


def _nan_codes(a: Integer[Tensor, "*N"], negative: Tensor, form: Element) -> Integer[Tensor, "*N"]:
    """The NaNs that `codec.encode` makes of fp64's, but for one that the format has as it is.

    A tensor does not say what its NaNs were decoded from: those that may have been this format's come back unchanged.
    """
    assert not isinstance(form, IntFormat)
    if form.specials == "fnuz":
        return torch.full_like(a, codec.sign_bit(form))
    codes = torch.full_like(a, form.last_number + 1)
    if form.specials == "ieee":
        M = form.mantissa_bits
        codes |= _payload(a & ((1 << 52) - 1), 52, M)
    sign = -(1 << 63) if form.bits == 64 else codec.sign_bit(form)
    return codes | torch.where(negative, sign, 0)


def from_codes(codes: Integer[Tensor, "*N"], form: Element, dtype: torch.dtype = torch.float32) -> Tensor:
    """What codes say, in float32 or another dtype that holds it; NaNs with their signs and payloads."""
    if form.bits <= TABLE:
        return _table(form, dtype).to(codes.device)[codes.long()]
    assert not isinstance(form, IntFormat)
    return recast(_numbers(codes.long(), form), dtype)


def _numbers(codes: Int64[Tensor, "*N"], form: FloatFormat) -> Float64[Tensor, "*N"]:
    """What codes say, of a format with subnormal numbers."""
    M, P = form.mantissa_bits, 52
    sign = codes >> (form.bits - 1) & 1
    size = codes & ((1 << (form.bits - 1)) - 1)
    normal = (size + (form.least_exponent + 1022 << M)) << (P - M)
    subnormal = size.double() * float(form.smallest)
    bits = torch.where(size < 1 << M, subnormal.view(torch.int64), normal)
    bits = torch.where(size > form.last_number, (size << (P - M)) | 0x7FF << P, bits)
    if form.specials == "fnuz":
        bits = torch.where((sign == 1) & (size == 0), FP64.nan, bits)
    return (bits | sign << 63).view(torch.float64)


@lru_cache(maxsize=64)
def _table(form: Element, dtype: torch.dtype) -> Tensor:
    """The number behind every code."""
    codes = range(1 << form.bits)
    if isinstance(form, FloatFormat) and form.subnormals:
        return recast(_numbers(torch.tensor(codes), form), dtype)
    return torch.tensor([float(codec.decode(code, form)) for code in codes], dtype=torch.float64).to(dtype)


def recast(x: Float[Tensor, "*N"], dtype: torch.dtype) -> Float[Tensor, "*N"]:
    """x in another dtype, with what there is room for of a NaN's payload: casts forget it, or set its quiet bit."""
    done = x.to(dtype)
    if x.dtype == dtype or x.dtype not in LAYOUT or dtype not in LAYOUT:
        return done
    (whole, P), (other, M) = LAYOUT[x.dtype], LAYOUT[dtype]
    word, words = x.view(whole).long(), torch.iinfo(other)
    nan = _payload(word & ((1 << P) - 1), P, M) | words.max >> M << M | torch.where(word < 0, words.min, 0)
    return torch.where(x.isnan(), nan.to(other).view(dtype), done)


def holder(form: Element) -> torch.dtype:
    """Of the tensor that holds a format's codes, one a number."""
    if form.bits <= 8:
        return torch.uint8
    return torch.int32 if form.bits < 32 else torch.int64


def _payload(payload: Integer[Tensor, "*N"], old: int, new: int) -> Integer[Tensor, "*N"]:
    """The mantissa field of NaNs, in so many bits instead of others; quiet where something of it is lost."""
    if new >= old:
        return payload << (new - old)
    lost = payload & ((1 << (old - new)) - 1) != 0
    return payload >> (old - new) | torch.where(lost, 1 << (new - 1), 0)


def pack(codes: UInt8[Tensor, "*N"], bits: int) -> UInt8[Tensor, " bytes"]:
    """Codes of 4 or 6 bits without gaps, the first one in the lowest bits: two in a byte, four in three bytes.

    The last byte is filled with zeros. So torch's float4_e2m1fn_x2 lies, too. Codes of 8 bits are bytes as they are.
    UsageError for any other number of bits.
    """
    per = _per_word(bits)
    if bits == 8:
        return codes.flatten()
    flat = codes.flatten().to(torch.int32)
    flat = torch.nn.functional.pad(flat, (0, -flat.numel() % per)).view(-1, per)
    word = (flat << torch.arange(per, device=flat.device, dtype=torch.int32) * bits).sum(-1)
    count = per * bits // 8
    return (word[:, None] >> torch.arange(count, device=flat.device) * 8 & 255).to(torch.uint8).flatten()


def unpack(packed: UInt8[Tensor, " bytes"], bits: int, count: int) -> UInt8[Tensor, " count"]:
    """The first `count` codes of what `pack` made. UsageError where there are fewer, or bits that it does not pack."""
    per = _per_word(bits)
    size = per * bits // 8
    if packed.numel() % size or packed.numel() // size * per < count:
        raise UsageError(f"{packed.numel()} bytes do not hold {count} codes of {bits} bits")
    if bits == 8:
        return packed[:count]
    steps = torch.arange(size, device=packed.device, dtype=torch.int32) * 8
    word = (packed.view(-1, size).to(torch.int32) << steps).sum(-1)
    codes = word[:, None] >> torch.arange(per, device=packed.device) * bits & ((1 << bits) - 1)
    return codes.flatten()[:count].to(torch.uint8)


def _per_word(bits: int) -> int:
    """How many codes of so many bits fill whole bytes."""
    per = {4: 2, 6: 4, 8: 1}
    if bits not in per:
        raise UsageError(f"codes of {bits} bits are not packed", hint=f"{', '.join(map(str, per))} bits")
    return per[bits]
