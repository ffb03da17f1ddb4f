"""The same formats in the words of others: ml_dtypes, torch, gfloat."""

from typing import Any

import ml_dtypes
import numpy as np
import torch
from gfloat import RoundMode, formats

ML_DTYPES: dict[str, Any] = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e4m3ieee": ml_dtypes.float8_e4m3,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "e3m4": ml_dtypes.float8_e3m4,
    "e4m3fnuzb11": ml_dtypes.float8_e4m3b11fnuz,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e8m0": ml_dtypes.float8_e8m0fnu,
}

TORCH = {
    "fp16": (torch.float16, "ieee"),
    "bf16": (torch.bfloat16, "ieee"),
    "e4m3": (torch.float8_e4m3fn, "saturate"),  # torch 2.11 and 2.13 on a CPU; ml_dtypes gives NaN
    "e5m2": (torch.float8_e5m2, "ieee"),
    "e4m3fnuz": (torch.float8_e4m3fnuz, "ieee"),
    "e5m2fnuz": (torch.float8_e5m2fnuz, "ieee"),
}

GFLOAT = {
    "fp16": formats.format_info_binary16,
    "bf16": formats.format_info_bfloat16,
    "e4m3": formats.format_info_ocp_e4m3,
    "e5m2": formats.format_info_ocp_e5m2,
    "e3m2": formats.format_info_ocp_e3m2,
    "e2m3": formats.format_info_ocp_e2m3,
    "e2m1": formats.format_info_ocp_e2m1,
}

MODES = {
    "nearest": RoundMode.TiesToEven,
    "nearest-away": RoundMode.TiesToAway,
    "toward-zero": RoundMode.TowardZero,
    "up": RoundMode.TowardPositive,
    "down": RoundMode.TowardNegative,
}


def same(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Where two arrays of floats are equal to the bit; NaNs all count as one."""
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        nan = np.isnan(mine) & np.isnan(theirs)
        return nan | ((mine == theirs) & (np.signbit(mine) == np.signbit(theirs)))


def fp32_patterns(count: int, seed: int = 0) -> torch.Tensor:
    """Random fp32 words, every exponent and both signs among them; and every upper half with its neighbours."""
    random = np.random.default_rng(seed).integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32)
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    special = [upper + np.uint32(low) for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
    return torch.from_numpy(np.concatenate([random, *special]).view(np.float32))


def gaussians(count: int, seed: int = 0) -> torch.Tensor:
    """Numbers of the sizes that small formats can say, and some that they cannot."""
    generator = np.random.default_rng(seed)
    sizes = np.exp2(generator.uniform(-24, 18, count))
    return torch.from_numpy((generator.standard_normal(count) * sizes).astype(np.float32))
