"""What a CUDA device trains is what the CPU trains, and a run on it keeps the promises that one on a CPU keeps."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import primer
from primer.kernels import cross_entropy
from primer.kernels.attention import attention
from primer.models.gpt import GPT
from primer.recipes.directory import RunDirectory, find
from primer.recipes.loaded import Run
from primer.training.sharding import shard
from setups import TINY

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def needs_cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def trained(text: Path, folder: Path, **flags: Any) -> Run:
    """A run of a small model on the GPU in float32, unless the flags say otherwise."""
    named = {name.replace("__", "."): value for name, value in flags.items()}
    settings = TINY | {"train.device": "cuda", "train.precision": "fp32", "optim.muon_dtype": "fp32"} | named
    return primer.load(primer.train(str(text), flags=settings, runs_dir=folder))


def losses(run: Run) -> list[float]:
    return [row["loss"] for row in RunDirectory(run.path).metrics.rows() if "loss" in row]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_losses_are_the_cpus(text_file: Path, tmp_path: Path, optimizer: str) -> None:
    flags = {"optim__name": optimizer}
    here = trained(text_file, tmp_path / "gpu", **flags)
    there = trained(text_file, tmp_path / "cpu", train__device="cpu", **flags)
    assert losses(here) == pytest.approx(losses(there), abs=1e-3)
    assert losses(here)[-1] < losses(here)[0]


@pytest.mark.parametrize("flags", [{"train__precision": "bf16"}, {"train__precision": "fp16"}])
def test_narrow_products_train_nearly_as_well(text_file: Path, tmp_path: Path, flags: dict[str, Any]) -> None:
    narrow = trained(text_file, tmp_path / "narrow", **flags)
    wide = trained(text_file, tmp_path / "wide")
    assert losses(narrow) == pytest.approx(losses(wide), abs=0.05)


def test_compiled_or_not(text_file: Path, tmp_path: Path) -> None:
    """In a process of its own: the types that tests check at every call cannot be compiled."""
    settings = TINY | {"train.device": "cuda", "train.precision": "fp32", "train.compile": "on"}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "primer", "train", str(text_file), f"--runs-dir={tmp_path}", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    compiled = find("latest", tmp_path)
    assert compiled.read_config().train.compile == "on", done.stderr
    eager = trained(text_file, tmp_path / "eager", train__compile="off")
    assert [row["loss"] for row in compiled.metrics.rows() if "loss" in row] == pytest.approx(
        losses(eager), abs=1e-3
    )


def test_resumed_is_uninterrupted(text_file: Path, tmp_path: Path) -> None:
    flags = {"model__pattern_dropout": 0.1, "train__precision": "bf16", "schedule__shape": "constant"}
    flags |= {"train__deterministic": True, "train__evaluate_every": 4}
    whole = trained(text_file, tmp_path / "whole", **flags)
    part = trained(text_file, tmp_path / "part", train__steps=8, **flags)
    primer.resume(part.path, flags={"train.steps": 12})
    assert losses(part) == losses(whole)


def test_what_a_gpu_wrote_a_cpu_reads(text_file: Path, tmp_path: Path) -> None:
    run = trained(text_file, tmp_path)
    tokens = torch.randint(run.model.config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here = run.model.cpu()(tokens)
        there = run.model.cuda()(tokens.cuda()).cpu()
    assert float((here - there).abs().max()) < 1e-4


@pytest.mark.parametrize("D", [64, 96, 128])
@pytest.mark.parametrize(("T", "S"), [(200, 200), (1, 200), (7, 200)])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_attention_is_as_exact_as_plain_torch(D: int, T: int, S: int, kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 4, T, D), (2, kv_heads, S, D), (2, kv_heads, S, D)]
    drawn = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    truth = attention(*drawn, implementation="reference")
    narrow = [x.to("cuda", torch.bfloat16) for x in drawn]
    plain = attention(*narrow, implementation="reference").cpu().double()
    fast = attention(*narrow).cpu().double()
    assert float((fast - truth).abs().max()) <= 2 * float((plain - truth).abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1, "soft_cap": 5.0}], ids=["plain", "smoothed and capped"]
)
@pytest.mark.parametrize("V", [1000, 50257])
@pytest.mark.parametrize("biased", [False, True])
def test_the_loss_over_its_logits(
    dtype: torch.dtype, options: dict[str, float], V: int, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the error of plain torch under the same autocast at most, in pieces, against float64 on the CPU."""
    monkeypatch.setitem(cross_entropy.CHUNKS, "cuda", 300 * V)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=generator) for shape in ((700, 64), (V, 64), (V,))]
    targets = torch.randint(V, (700,), generator=generator)

    def results(implementation: Any, dtype: torch.dtype, device: str) -> list[torch.Tensor]:
        kept = torch.float64 if dtype == torch.float64 else torch.float32
        h, weight, bias = (x.to(device, kept).requires_grad_() for x in drawn)
        leaves = [h, weight, bias][: 2 + biased]
        with torch.autocast(device, dtype, enabled=dtype.itemsize < 4):
            loss = cross_entropy.linear_cross_entropy(
                h,
                weight,
                targets.to(device),
                bias=bias if biased else None,
                implementation=implementation,
                **options,
            )
        found = [loss.detach(), *torch.autograd.grad(0.3 * loss, leaves)]
        return [x.double().cpu() for x in found]

    truth = results("reference", torch.float64, "cpu")
    plain = results("reference", dtype, "cuda")
    fast = results("gpu", dtype, "cuda")
    for t, p, f in zip(truth, plain, fast, strict=True):
        allowed = 2 * float((p - t).abs().max()) + 1e-6 * float(t.abs().max())
        if t.ndim == 0:  # one number may be right by luck: the mean of 700 rounded ones
            allowed += torch.finfo(dtype).eps * float(t) / 700**0.5
        assert float((f - t).abs().max()) <= allowed


def test_a_compiled_model_reaches_that_loss() -> None:
    """In a process of its own, as above: a graph in one piece, the same loss and gradients as without a compiler."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr


COMPILED = """
import torch
from primer import GPT, GPTConfig
torch.manual_seed(0)
model = GPT(GPTConfig(vocab_size=50257, d_model=64, n_layers=2, n_heads=2, context_length=256, tied_head=True)).cuda()
tokens = torch.randint(50257, (4, 256), device="cuda")
found = []
for forward in (model, torch.compile(model, fullgraph=True)):
    with torch.autocast("cuda", torch.bfloat16):
        loss = forward(tokens, targets=tokens)
    loss.backward()
    found.append((float(loss.detach()), model.head.weight.grad.clone()))
    model.zero_grad()
assert abs(found[0][0] - found[1][0]) < 1e-2, found
assert (found[0][1] - found[1][1]).norm() < 0.02 * found[0][1].norm()
"""


def test_a_model_in_slices_computes_what_the_whole_does(tmp_path: Path) -> None:
    """One process has all the slices: what is tested is that FSDP takes this model and this device."""
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1, device_id=torch.device("cuda:0")
    )
    try:
        torch.manual_seed(0)
        model = GPT(primer.GPTConfig(vocab_size=100, d_model=32, n_layers=2, n_heads=2, context_length=16))
        model = model.cuda()
        tokens = torch.randint(100, (2, 16), device="cuda")
        expected = model(tokens, targets=tokens)
        shard(model)
        found = model(tokens, targets=tokens)
        assert found.item() == pytest.approx(expected.item(), abs=1e-5)
        found.backward()
    finally:
        torch.distributed.destroy_process_group()
