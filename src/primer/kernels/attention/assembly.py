"""What the compilers make of the kernels, without a GPU: registers, spills, shared memory, matrix instructions, waits.

The launching code runs as always, on tensors of a CPU, but its launches are noted down instead; each is compiled with
exactly the arguments that it has, for a GPU that need not be there. The wheel of Triton brings the assembler and the
disassembler.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.tools.tensor_descriptor import TensorDescriptor

from primer.kernels.attention import gpu
from primer.kernels.attention.gpu import backward, decode, forward
from primer.kernels.attention.gpu.launch import How, Launch, noted, padded
from primer.kernels.attention.visible import Spans, queries_of_keys, spans

ARCHITECTURES = {"sm_80": (8, 0), "sm_90a": (9, 0)}
"""A100 and H100: by what their assembler calls them, and by what torch does."""

SHARED_MEMORY = {"sm_80": 166_912, "sm_90a": 232_448}
"""Bytes of shared memory that a program may have at most (CUDA programming guide, table of compute capabilities)."""

DTYPES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.int32: "i32",
    torch.int8: "i8",
}


class Report(NamedTuple):
    """Of one compiled kernel. waits: for matrix instructions to end. warnings: the assembler's, about these."""

    kernel: str
    registers: int
    spilled: int  # bytes stored
    shared: int  # bytes
    hgmma: int
    hmma: int
    waits: int
    warnings: tuple[str, ...]


class Variant(NamedTuple):
    """A call whose kernels are compiled: a width, a dtype and what is asked for."""

    width: int
    dtype: torch.dtype
    feature: str

    def __str__(self) -> str:
        return f"{self.feature}, width {self.width}, {DTYPES[self.dtype]}"


FEATURES: dict[str, dict[str, Any]] = {
    "full": {"causal": False},
    "causal": {},
    "window": {"window": 300},
    "documents": {"documents": True},
    "padding": {"causal": False, "padding": True},
    "soft cap": {"soft_cap": 20.0},
    "dropout": {"dropout": 0.1},
}

VARIANTS = [
    *(Variant(width, torch.bfloat16, feature) for width in (64, 128) for feature in FEATURES),
    *(Variant(width, torch.bfloat16, "causal") for width in (32, 96)),
    Variant(128, torch.float16, "causal"),
    *(Variant(width, torch.float32, feature) for width in (64, 128) for feature in ("causal", "dropout")),
]
"""What is compiled to see that all of it is well; a kernel's instructions differ between these, and hardly else."""


def launches(variant: Variant, architecture: str) -> list[Launch]:
    """What a forward and a backward pass, and decoding, would start on such a GPU: each kernel that could be chosen."""
    B, H, T = 2, 4, 1024
    q, k, v = (torch.zeros(B, H, T, variant.width, dtype=variant.dtype) for _ in range(3))
    asked = dict(FEATURES[variant.feature])
    documents, padding = asked.pop("documents", False), asked.pop("padding", False)
    settings = {"causal": True, "window": 0, "soft_cap": 0.0, "dropout": 0.0, **asked}
    how = How(softmax_scale=0.1, seed=1, **settings)
    visible = None
    if documents:
        found = spans(T, T, causal=True, document_ids=torch.zeros(B, T, dtype=torch.int32))
        visible = Spans(*(x.contiguous() for x in found))
    seen = torch.ones(B, T, dtype=torch.bool) if padding else None
    capability = ARCHITECTURES[architecture]
    width, itemsize, plain = padded(variant.width), q.element_size(), how.plain and seen is None
    with noted() as found_launches:
        tiles = gpu.forward_tiles(width, itemsize, plain, capability)
        out, lse = forward.forward_pass(q, k, v, visible, seen, how, tiles)
        delta = backward.rowsum(out, out)
        both = gpu.backward_tiles(width, itemsize, plain, capability)
        backward.backward_pass(out, q, k, v, lse, delta, visible, seen, how, *both)
        if variant.feature in ("causal", "window", "soft cap"):
            settings = {"causal": True, "window": how.window, "softmax_scale": 0.1, "soft_cap": how.soft_cap}
            decode.decode(q[:, :, :1], k, v, splits=4, **settings)
        kernels = gpu.gluon_kernels()
        if kernels and capability == (9, 0) and plain and itemsize == 2:
            columns = None if visible is None else queries_of_keys(visible, T)
            if width > 64:
                kernels[0].forward_pass(q, k, v, visible, how)
            kernels[1].backward_pass(out, q, k, v, lse, delta, columns, how, block_t=gpu.hopper_block(width))
    return found_launches


def compiled(launch: Launch, architecture: str) -> Any:
    """The kernel of a launch, compiled for a GPU of this architecture."""
    kernel, arguments = launch
    options = {name: arguments[name] for name in ("num_warps", "num_stages") if name in arguments}
    signature: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    aligned: dict[tuple[int, ...], list[list[Any]]] = {}
    for place, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        signature[parameter.name] = type_of(value)
        if parameter.do_not_specialize:
            continue
        for path, part in parts_of(value, place):
            if isinstance(part, Tensor) or (isinstance(part, int) and part > 0 and part % 16 == 0):
                aligned[path] = [["tt.divisibility", 16]]
    source = source_type(kernel)(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    major, minor = ARCHITECTURES[architecture]
    return triton.compile(source, target=GPUTarget("cuda", 10 * major + minor, 32), options=options)


def source_type(kernel: Any) -> Callable[..., Any]:
    """What the compiler wants to be given: Triton and Gluon differ."""
    if not kernel.is_gluon():
        return ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    return GluonASTSource


def parts_of(value: Any, place: int) -> list[tuple[tuple[int, ...], Any]]:
    """An argument, or each part of one that is a tuple, with the path by which the compiler finds it."""
    if isinstance(value, tuple):
        return [((place, number), part) for number, part in enumerate(value)]
    return [((place,), value)]


def type_of(value: Any) -> Any:
    """An argument's type, as Triton's compiler spells it."""
    if isinstance(value, tuple):
        return tuple(type_of(part) for part in value)
    if isinstance(value, Tensor):
        return f"*{DTYPES[value.dtype]}"
    if isinstance(value, int):
        return "i32" if abs(value) < 2**31 else "u32"
    if isinstance(value, float):
        return "fp32"
    block = ",".join(str(size) for size in value.block_shape)
    layout = "" if isinstance(value, TensorDescriptor) else f",{value.layout!r}"
    return f"tensordesc<{DTYPES[value.base.dtype]}[{block}]{layout}>"


def report(launch: Launch, architecture: str) -> Report:
    """Compile, assemble once more to hear what the assembler says, disassemble, count."""
    kernel = compiled(launch, architecture)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        binary, text = Path(folder, "kernel.cubin"), Path(folder, "kernel.ptx")
        binary.write_bytes(kernel.asm["cubin"])
        text.write_text(kernel.asm["ptx"], encoding="utf-8")
        said = run(assembler(architecture), "-v", f"--gpu-name={architecture}", str(text), "-o", "/dev/null")
        code = run(tools / "cuobjdump", "-sass", str(binary))
    return Report(
        kernel=f"{launch.kernel.fn.__module__.rpartition('.')[2]}.{launch.kernel.fn.__name__}",
        registers=number(r"Used (\d+) registers", said),
        spilled=number(r"(\d+) bytes spill stores", said),
        shared=kernel.metadata.shared,
        hgmma=len(re.findall(r"\bHGMMA", code)),
        hmma=len(re.findall(r"\bHMMA", code)),
        waits=len(re.findall(r"WARPGROUP\.DEPBAR", code)),
        warnings=tuple(sorted(set(re.findall(r"\bC75\d\d\b", said)))),
    )


def assembler(architecture: str) -> Path:
    """The one that Triton itself takes for this architecture: some versions bring two."""
    from triton.backends.nvidia.compiler import get_ptxas

    major, minor = ARCHITECTURES[architecture]
    return Path(get_ptxas(10 * major + minor).path)


def run(*command: str | Path) -> str:
    """What a tool says, on both channels."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found, f"the assembler did not say {pattern!r}"
    return int(found[1])


def reports(variant: Variant, architecture: str) -> list[Report]:
    """Of every kernel of a variant."""
    return [report(launch, architecture) for launch in launches(variant, architecture)]
