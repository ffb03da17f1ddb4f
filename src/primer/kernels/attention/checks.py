"""What a caller of attention can get wrong, said before a kernel says it in its own words."""

import math
from typing import Any

import torch
from torch import Tensor

from primer.errors import UsageError

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: Any,
    document_ids: Tensor | None,
    seen: Tensor | None,
    softmax_scale: float | None,
    soft_cap: float,
    dropout: float,
    dropout_seed: Any,
) -> None:
    """UsageError with the argument's name where shapes, dtypes, devices or numbers do not fit together."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != 4:
            raise wrong(
                name, f"has the shape {shape(x)}", "queries are (B, H, T, D), keys and values (B, Hkv, S, D)"
            )
        if x.dtype != q.dtype and not torch.is_autocast_enabled(q.device.type):
            raise wrong(name, f"is {x.dtype}, q is {q.dtype}", f"{name}.to(q.dtype)")
        if x.device != q.device:
            raise wrong(name, f"is on {x.device}, q is on {q.device}", f"{name}.to(q.device)")
    if q.dtype not in DTYPES:
        raise wrong("q", f"is {q.dtype}", "q.float(), or any of fp64, fp32, bf16 and fp16")
    B, H, T, D = q.shape
    _, Hkv, S, _ = k.shape
    if k.shape[0] != B or k.shape[3] != D:
        raise wrong("k", f"is {shape(k)}, q is {shape(q)}", "the same batch size and width for both")
    if v.shape[:3] != k.shape[:3]:
        raise wrong(
            "v", f"is {shape(v)}, k is {shape(k)}", "a value for every key: all but the width is equal"
        )
    if Hkv == 0 or H % Hkv:
        raise wrong(
            "k", f"has {Hkv} heads, q has {H}", "a number of key heads that divides that of query heads"
        )
    if window is not None and (type(window) is not int or window < 1):
        raise wrong(
            "window", f"is {window!r}", "1, which is only the query's own position, or more; None for all"
        )
    if not 0 <= dropout < 1:
        raise wrong("dropout", f"is {dropout}", "a chance from 0 to below 1")
    if softmax_scale is not None and not 0 < softmax_scale < math.inf:
        raise wrong("softmax_scale", f"is {softmax_scale}", "a number above 0; None for D^-½")
    if not 0 <= soft_cap < math.inf:
        raise wrong("soft_cap", f"is {soft_cap}", "a number above 0; 0 for none")
    for name, row in (("document_ids", document_ids), ("seen", seen)):
        if row is None:
            continue
        if row.shape != (B, S):
            raise wrong(name, f"is {shape(row)}", f"one for each key of each row: ({B}, {S})")
        if row.device != q.device:
            raise wrong(name, f"is on {row.device}, q is on {q.device}", f"{name}.to(q.device)")
    if document_ids is not None and (document_ids.is_floating_point() or document_ids.dtype == torch.bool):
        raise wrong("document_ids", f"are {document_ids.dtype}", "document_ids.long()")
    if not (dropout_seed is None or isinstance(dropout_seed, (int, Tensor))):
        raise wrong("dropout_seed", f"is {dropout_seed!r}", "a whole number; only its lowest 32 bits count")
    if seen is not None and seen.dtype != torch.bool:
        raise wrong("seen", f"is {seen.dtype}", "seen.bool()")
    if document_ids is not None and T > S:
        raise wrong(
            "document_ids",
            f"name {S} positions, and there are {T} queries",
            "at most as many queries as keys",
        )


def wrong(argument: str, cause: str, hint: str) -> UsageError:
    """The argument's name, what is wrong with it, and what would be right."""
    return UsageError(f"{argument} {cause}", f"attention(…, {argument}=…)", hint)


def shape(x: Tensor) -> str:
    return "(" + ", ".join(str(size) for size in x.shape) + ")"
