"""One operator, several implementations, one signature: `attention(q, k, v, …, implementation=…)`.

`reference` is equation 1, to be read, and the judge; `tiled` is flash attention in plain torch, to be understood;
`cpu` and `gpu` are fast where torch is not; `library` and its kinds are what torch brings. `auto` chooses.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend

from primer.errors import UsageError, missing_extra, nearest
from primer.kernels.attention import cpu, library, reference, tiled
from primer.kernels.attention.checks import check
from primer.kernels.attention.choice import Kind, working

Implementation = Literal[
    "auto",
    "reference",
    "tiled",
    "cpu",
    "gpu",
    "library",
    "library_flash",
    "library_efficient",
    "library_cudnn",
    "library_math",
    "flex",
]


def triton_kernels(*tensors: Tensor, **how: Any) -> tuple[Tensor, Tensor | None]:
    """The Triton kernels, imported when they are first asked for: the rest works without Triton."""
    try:
        from primer.kernels.attention import gpu as kernels
    except ImportError:
        raise missing_extra("triton", "gpu") from None
    return kernels.attention(*tensors, **how)


IMPLEMENTATIONS: dict[str, Callable[..., tuple[Tensor, Tensor | None]]] = {
    "reference": reference.attention,
    "tiled": tiled.attention,
    "cpu": cpu.attention,
    "gpu": triton_kernels,
    "library": library.attention,
    "library_flash": partial(library.attention, backend=SDPBackend.FLASH_ATTENTION),
    "library_efficient": partial(library.attention, backend=SDPBackend.EFFICIENT_ATTENTION),
    "library_cudnn": partial(library.attention, backend=SDPBackend.CUDNN_ATTENTION),
    "library_math": partial(library.attention, backend=SDPBackend.MATH),
    "flex": library.flex,
}


def attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    *,
    causal: bool = True,
    window: int | None = None,
    document_ids: Int[Tensor, "B S"] | None = None,
    seen: Bool[Tensor, "B S"] | None = None,
    softmax_scale: float | None = None,
    soft_cap: float = 0.0,
    dropout: float = 0.0,
    dropout_seed: int | Int[Tensor, ""] | None = None,
    return_lse: bool = False,
    implementation: Implementation = "auto",
) -> Any:  # Tensor, or with return_lse two of them
    """Each query's mean of the values, weighted by how well their keys match it (Vaswani et al. 2017, eq. 1).

    `k` and `v` may have fewer heads than `q` (grouped queries). The queries are the last T of the S positions.
    A query that may see no key gets zeros.

    causal: a query sees nothing later than itself.
    window: it sees itself and the window − 1 positions before it (without `causal`, as many after it).
    document_ids: it sees its own document only: a run of equal ids. Several documents are packed in one row.
    seen: which positions hold a token; no query sees the others.
    softmax_scale: what scores are multiplied by; D^-½ unless given.
    soft_cap: c > 0 bends scores to c·tanh(score / c).
    dropout: the chance of each weight to be dropped; 0 outside training.
    dropout_seed: the same seed drops the same weights, in every implementation but the library's; drawn if not given.
        Of a seed the lowest 32 bits count.
    return_lse: also the log of each row's sum of exponentials, float32 (float64 for float64), which has no gradient.
    """
    how: dict[str, Any] = {
        "window": window,
        "document_ids": document_ids,
        "seen": seen,
        "softmax_scale": softmax_scale,
        "soft_cap": soft_cap,
        "dropout": dropout,
    }
    check(q, k, v, **how, dropout_seed=dropout_seed)
    chosen: str = implementation
    if implementation == "auto":
        kind = Kind(
            device=str(q.device),
            dtype=q.dtype,
            width=q.shape[3],
            v_width=v.shape[3],
            group=q.shape[1] // k.shape[1],
            causal=causal,
            window=window is not None,
            documents=document_ids is not None,
            padding=seen is not None,
            soft_cap=soft_cap > 0,
            dropout=dropout > 0,
            trained=torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad),
        )
        chosen = automatic(q, k, kind, return_lse, document_ids)
    if dropout and dropout_seed is None:
        drawn = torch.randint(2**31, ())  # of which a number would break a compiler's graph
        dropout_seed = drawn if torch.compiler.is_compiling() else int(drawn)
    how |= {"causal": causal, "dropout_seed": 0 if dropout_seed is None else dropout_seed}
    if chosen == "cpu":  # which can be faster without
        how["return_lse"] = return_lse
    out, lse = named(chosen)(q, k, v, **how)
    if not return_lse:
        return out
    if lse is None:
        own = "gpu" if q.is_cuda else "cpu"
        raise UsageError(f"{chosen} does not give lse", "return_lse=True", f"implementation='{own}'")
    return out, lse


def named(implementation: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """One of `IMPLEMENTATIONS`; UsageError for a name that none has."""
    if implementation in IMPLEMENTATIONS:
        return IMPLEMENTATIONS[implementation]
    meant = nearest(implementation, [*IMPLEMENTATIONS, "auto"])
    raise UsageError(
        f"no implementation is called {implementation!r}",
        "attention(…, implementation=…)",
        f"{meant!r}" if meant else ", ".join(IMPLEMENTATIONS),
    )


def automatic(q: Tensor, k: Tensor, kind: Kind, return_lse: bool, document_ids: Tensor | None) -> str:
    """What `auto` stands for in a call: on a CPU by its sizes, on a GPU by what works (`choice`). lse is ours alone.

    A compiler traces what would be tried, so under torch.compile nothing is: torch's kernels do what is plain, ours the
    rest.
    """
    compiling = torch.compiler.is_compiling()
    if q.device.type == "cpu":
        if compiling or return_lse:
            return "library" if kind.plain and not return_lse else "cpu"
        return "cpu" if cpu.suits(q, k, kind, document_ids) else "library"
    if q.device.type != "cuda":
        return "reference" if kind.soft_cap or return_lse else "library"
    if compiling:
        return "library" if kind.plain and not return_lse else "gpu"
    able = working(kind, IMPLEMENTATIONS)
    return next((name for name in able if name == "gpu"), "reference") if return_lse else next(able)
