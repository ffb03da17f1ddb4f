"""From gradients to updates: AdamW and Muon, each written out to be read, and once more to train with.

An optimizer here is one rule for one group of parameters. Groups that need different rules (matrices with
weight decay, the rest without) are several optimizers, put together by `Optimizers`. The learning rate
that was given is the peak; a schedule scales it step by step through `step(lr_factor)`, so the optimizer
itself knows no schedule.

    decayed, plain = decay_groups(model.named_parameters())
    optimizer = Optimizers([AdamW(decayed, lr=1e-3, weight_decay=0.1), AdamW(plain, lr=1e-3)])
    loss.backward()
    norm = clip_grad_norm(model.parameters(), 1.0)
    optimizer.step(lr_factor=0.5)
    optimizer.zero_grad()
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from primer.errors import DataError, UsageError
from primer.training.sharding import joined_again, local, put, slice_of, whole

Named = Iterable[tuple[str, nn.Parameter]]

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""a, b and c of the quintic a·x + b·x³ + c·x⁵ (Jordan 2024): the steepest at zero that still keeps ones."""


@runtime_checkable
class Optimizer(Protocol):
    """What the training loop needs of an optimizer."""

    def step(self, lr_factor: float = 1.0) -> None:
        """Update every parameter that has a gradient, at `lr_factor` times the peak learning rate."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def state_tensors(self) -> dict[str, Tensor]:
        """All that the next step needs beside weights and gradients: "<parameter>.<slot>" → tensor."""

    def load_state_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state_tensors` returned, bit for bit. DataError where it does not fit."""


class _Group:
    """Parameters that are updated by one rule, and the tensors that the rule remembers about them."""

    def __init__(self, named_parameters: Named, lr: float, weight_decay: float) -> None:
        if not 0 < lr < float("inf"):
            raise UsageError(f"a learning rate must be a positive number, got {lr}")
        if not 0 <= weight_decay < float("inf"):
            raise UsageError(f"weight decay must not be negative, got {weight_decay}")
        self.parameters = dict(named_parameters)
        self.lr = lr
        self.weight_decay = weight_decay
        self.state: dict[str, Tensor] = {}

    def _with_gradient(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.parameters.items() if p.grad is not None}

    def zero_grad(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        return dict(self.state)

    def load_state_tensors(self, state: Mapping[str, Tensor]) -> None:
        _check_fit(state, self.state)
        for name, mine in self.state.items():
            put(mine, state[name])


def _check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """DataError unless `state` has `expected`'s names, shapes, dtypes, and finite numbers; before any is copied."""
    remedy = "the optimizer that the run was trained with, or --init-from to take its weights alone"
    if different := sorted(set(state) ^ set(expected)):
        problem = "has no place for" if different[0] in state else "lacks"
        raise DataError(
            f"the optimizer state {problem} {different[0]} ({len(different)} names differ)", hint=remedy
        )
    for name, mine in expected.items():
        theirs = state[name]
        if theirs.shape != mine.shape or theirs.dtype != mine.dtype:
            raise DataError(
                f"optimizer state {name} is {theirs.dtype} {tuple(theirs.shape)}, "
                f"the model needs {mine.dtype} {tuple(mine.shape)}",
                hint=remedy,
            )
        if not torch.isfinite(theirs).all():
            raise DataError(f"optimizer state {name} contains a number that is not finite", hint=remedy)


class AdamW(_Group):
    """Adam (Kingma & Ba 2015, Alg. 1) with decoupled weight decay (Loshchilov & Hutter 2019, Alg. 2).

    g: the gradient. m and v ("first_moment", "second_moment"): running means of g and g². β₁, β₂: `betas`.

        m ← β₁·m + (1 − β₁)·g                    v ← β₂·v + (1 − β₂)·g²
        m̂ = m / (1 − β₁ᵗ)                        v̂ = v / (1 − β₂ᵗ)
        θ ← θ − lr·weight_decay·θ − lr·m̂ / (√v̂ + eps)

    The divisions make up for m and v having started at zero (§3). t ("step") counts a parameter's own
    updates. `implementation="reference"` is these lines, one parameter at a time; "fused" is one pass over
    memory for all of them (`benchmarks/optim.py`). State takes twice the parameters' bytes.
    """

    def __init__(
        self,
        named_parameters: Named,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        implementation: Literal["reference", "fused"] = "fused",
    ) -> None:
        super().__init__(named_parameters, lr, weight_decay)
        if not all(0 <= beta < 1 for beta in betas) or not eps > 0:
            raise UsageError(f"betas must lie in [0, 1) and eps must be positive, got {betas} and {eps}")
        self.betas = betas
        self.eps = eps
        self.update = {"reference": self._reference, "fused": self._fused}[implementation]
        for name, p in self.parameters.items():
            self.state[f"{name}.step"] = torch.zeros((), dtype=torch.float32, device=p.device)
            self.state[f"{name}.first_moment"] = torch.zeros_like(p, requires_grad=False)
            self.state[f"{name}.second_moment"] = torch.zeros_like(p, requires_grad=False)

    @torch.no_grad()
    def step(self, lr_factor: float = 1.0) -> None:
        self.update(self._with_gradient(), self.lr * lr_factor)

    def _reference(self, parameters: dict[str, nn.Parameter], lr: float) -> None:
        beta1, beta2 = self.betas
        for name, parameter in parameters.items():
            assert parameter.grad is not None
            p, g = local(parameter), local(parameter.grad)
            m, v = (local(self.state[f"{name}.{slot}_moment"]) for slot in ("first", "second"))
            t = self.state[f"{name}.step"].add_(1).item()

            p.mul_(1 - lr * self.weight_decay)
            m.lerp_(g, 1 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            root = v.sqrt() / (1 - beta2**t) ** 0.5  # √v̂
            p.addcdiv_(m, root + self.eps, value=-(lr / (1 - beta1**t)))

    def _fused(self, parameters: dict[str, nn.Parameter], lr: float) -> None:
        alike = defaultdict(list)  # the operator takes one device and one dtype at a time
        for name, p in parameters.items():
            alike[p.device, p.dtype].append(name)
        for names in alike.values():
            steps = self._slot(names, "step")
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                [local(parameters[name]) for name in names],
                [local(g) for name in names if (g := parameters[name].grad) is not None],
                self._slot(names, "first_moment"),
                self._slot(names, "second_moment"),
                [],
                steps,
                lr=lr,
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=self.weight_decay,
                eps=self.eps,
                amsgrad=False,
                maximize=False,
            )

    def _slot(self, names: list[str], slot: str) -> list[Tensor]:
        return [local(self.state[f"{name}.{slot}"]) for name in names]


class Muon(_Group):
    """Momentum, orthogonalised by Newton–Schulz (Jordan 2024, kellerjordan.github.io/posts/muon).
    Matrices only.

    A gradient's few large singular values drown all others. Muon keeps the directions of the update and
    makes its singular values (nearly) equal: U Σ Vᵀ becomes U Vᵀ, so that rare directions are learned as
    fast as common ones.

        m ← momentum·m + (1 − momentum)·g
        u = g + momentum·(m − g)   if nesterov, else m
        θ ← θ − lr·weight_decay·θ − lr·scale·orthogonalise(u)

    scale: √max(1, rows/columns) for "original"; 0.2·√max(rows, columns) for "match_rms_adamw" (Liu et al.
    2025, §2.2), which gives updates of AdamW's size, so that its learning rate and weight decay can be
    kept.

    It is for the blocks' matrices; embeddings, the output layer, gains and biases belong to AdamW (ibid.).
    `dtype` is what `orthogonalise` computes in; unset, it follows the device (`orthogonalise_dtype`).
    `rows` names parameters that hold several matrices one below the other, and the rows of each: queries,
    keys and values are projected by one matrix, but have nothing to be orthogonal to each other for.
    `implementation="reference"` takes one matrix at a time; "batched" takes all of one shape at once.
    """

    def __init__(
        self,
        named_parameters: Named,
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
        adjust_lr: Literal["original", "match_rms_adamw"] = "original",
        dtype: torch.dtype | None = None,
        rows: Mapping[str, Sequence[int]] | None = None,
        implementation: Literal["reference", "batched"] = "batched",
    ) -> None:
        super().__init__(named_parameters, lr, weight_decay)
        self.rows = rows or {}
        if not 0 <= momentum < 1:
            raise UsageError(f"momentum must lie in [0, 1), got {momentum}")
        if ns_steps < 1:
            raise UsageError(f"Newton–Schulz takes at least one step, got {ns_steps}")
        for name, p in self.parameters.items():
            if p.ndim != 2:
                raise UsageError(f"Muon updates matrices only, {name} has shape {tuple(p.shape)}")
            self.state[f"{name}.momentum"] = torch.zeros_like(p, requires_grad=False)
        self.momentum = momentum
        self.nesterov = nesterov
        self.ns_steps = ns_steps
        self.adjust_lr = adjust_lr
        self.dtype = dtype
        self.update = {"reference": self._reference, "batched": self._batched}[implementation]

    @torch.no_grad()
    def step(self, lr_factor: float = 1.0) -> None:
        parameters = self._with_gradient()
        if any(local(p) is not p for p in parameters.values()):
            self._sharded(parameters, self.lr * lr_factor)
        else:
            self.update(parameters, self.lr * lr_factor)

    def _sharded(self, parameters: dict[str, nn.Parameter], lr: float) -> None:
        """One matrix at a time is put together, because its singular values are those of the whole."""
        for name, p in parameters.items():
            assert p.grad is not None
            g, m = local(p.grad), local(self.state[f"{name}.momentum"])
            m.lerp_(g, 1 - self.momentum)
            u = joined_again(g.lerp(m, self.momentum) if self.nesterov else m, p)
            step = torch.zeros_like(u)
            for piece, update in zip(self._pieces(name, step), self._pieces(name, u), strict=True):
                orthogonal = self._orthogonalise(update, fewest_products=True)
                piece.add_(orthogonal, alpha=-lr * self._scale(piece))
            local(p).mul_(1 - lr * self.weight_decay).add_(slice_of(step, p))

    def _reference(self, parameters: dict[str, nn.Parameter], lr: float) -> None:
        for name, p in parameters.items():
            g, m = p.grad, self.state[f"{name}.momentum"]
            assert g is not None
            m.lerp_(g, 1 - self.momentum)
            u = g.lerp(m, self.momentum) if self.nesterov else m
            p.mul_(1 - lr * self.weight_decay)
            for piece, update in zip(self._pieces(name, p), self._pieces(name, u), strict=True):
                piece.add_(self._orthogonalise(update), alpha=-lr * self._scale(piece))

    def _pieces(self, name: str, tensor: Tensor) -> tuple[Tensor, ...]:
        """The matrices that a parameter holds, as views into it."""
        return tensor.detach().split(list(self.rows.get(name, tensor.shape[:1])))

    def _batched(self, parameters: dict[str, nn.Parameter], lr: float) -> None:
        if not parameters:
            return
        gradients = [p.grad for p in parameters.values() if p.grad is not None]
        momenta = [self.state[f"{name}.momentum"] for name in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - self.momentum)
        updates = torch._foreach_lerp(gradients, momenta, self.momentum) if self.nesterov else momenta
        torch._foreach_mul_(list(parameters.values()), 1 - lr * self.weight_decay)

        alike = defaultdict(list)
        for (name, fused), u in zip(parameters.items(), updates, strict=True):
            for piece, update in zip(self._pieces(name, fused), self._pieces(name, u), strict=True):
                alike[piece.shape, piece.dtype, piece.device].append((piece, update))
        for pairs in alike.values():
            stacked = self._orthogonalise(torch.stack([u for _, u in pairs]), fewest_products=True)
            for (p, _), o in zip(pairs, stacked, strict=True):
                p.add_(o, alpha=-lr * self._scale(p))

    def _orthogonalise(self, update: Tensor, fewest_products: bool = False) -> Tensor:
        dtype = self.dtype or orthogonalise_dtype(update.device)
        short, long = sorted(update.shape[-2:])
        if fewest_products and long >= 2 * short and dtype.itemsize >= 4:
            return orthogonalise_long(update, self.ns_steps, dtype)
        return orthogonalise(update, self.ns_steps, dtype)

    def _scale(self, p: Tensor) -> float:
        rows, columns = p.shape
        if self.adjust_lr == "original":
            return max(1, rows / columns) ** 0.5
        return 0.2 * max(rows, columns) ** 0.5


def orthogonalise(
    update: Float[Tensor, "*K M N"], steps: int = 5, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*K M N"]:
    """Of a matrix U Σ Vᵀ, roughly U Vᵀ: singular values between about 0.7 and 1.2, without computing any.

    An odd polynomial of a matrix, a·X + b·(X Xᵀ)X + c·(X Xᵀ)²X, is the same polynomial of its singular
    values. Applied again and again, `NEWTON_SCHULZ` carries all of (0, 1] near 1: a value of .01 in
    four steps, .001 in six. The Frobenius norm is at least the largest singular value, so dividing
    by it brings all of them into (0, 1].
    """
    a, b, c = NEWTON_SCHULZ
    x, tall = _prepared(update, dtype)
    multiply_add = torch.baddbmm if x.ndim == 3 else torch.addmm
    for _ in range(steps):
        square = x @ x.mT
        square = multiply_add(square, square, square, beta=b, alpha=c)  # b·XXᵀ + c·(XXᵀ)²
        x = multiply_add(x, square, x, beta=a)
    return (x.mT if tall else x).to(update.dtype)


def orthogonalise_long(
    update: Float[Tensor, "*K M N"], steps: int = 5, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*K M N"]:
    """`orthogonalise` in fewer products where one side is at least twice the other: 25, not 45, for 1 : 4.

    Every iterate is Q·X, Q a polynomial of G = X·Xᵀ, and its own square is Q·G·Q: small squares are all
    that has to be multiplied until Q is known. What is rounded off G grows by a² a step, so bfloat16 is
    too coarse.
    """
    a, b, c = NEWTON_SCHULZ
    x, tall = _prepared(update, dtype)
    multiply_add = torch.baddbmm if x.ndim == 3 else torch.addmm
    square = x @ x.mT
    p = multiply_add(square, square, square, beta=b, alpha=c)  # b·G + c·G²: one step multiplies X by a·I + p
    q = p + a * torch.eye(x.shape[-2], dtype=dtype, device=x.device)
    for _ in range(steps - 1):
        square = multiply_add(square, p, square, beta=a)
        square = multiply_add(square, square, p, beta=a)  # (a·I + p)·G·(a·I + p)
        p = multiply_add(square, square, square, beta=b, alpha=c)
        q = multiply_add(q, p, q, beta=a)
    x = q @ x
    return (x.mT if tall else x).to(update.dtype)


def _prepared(update: Tensor, dtype: torch.dtype) -> tuple[Tensor, bool]:
    """The matrix lying down, so that X·Xᵀ is the smaller of its two squares, and no singular value above 1."""
    tall = update.shape[-2] > update.shape[-1]
    x = update.to(dtype)
    x = x.mT if tall else x
    return x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7), tall


def orthogonalise_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where it is the faster one (GPUs, CPUs with AMX or AVX512-BF16), else float32.

    Newton–Schulz forgives bfloat16's three digits, but emulated it is 7 to 60 times slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return torch.bfloat16
    return torch.float32


class Optimizers:
    """Several optimizers, each with its own parameters, as one."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        names = [name for optimizer in self.optimizers for name in optimizer.state_tensors()]
        assert len(names) == len(set(names)), "a parameter is in two optimizers"

    def step(self, lr_factor: float = 1.0) -> None:
        for optimizer in self.optimizers:
            optimizer.step(lr_factor)

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def state_tensors(self) -> dict[str, Tensor]:
        return {name: t for optimizer in self.optimizers for name, t in optimizer.state_tensors().items()}

    def load_state_tensors(self, state: Mapping[str, Tensor]) -> None:
        _check_fit(state, self.state_tensors())
        for optimizer in self.optimizers:
            optimizer.load_state_tensors({name: state[name] for name in optimizer.state_tensors()})


def decay_groups(
    named_parameters: Named,
) -> tuple[list[tuple[str, nn.Parameter]], list[tuple[str, nn.Parameter]]]:
    """(matrices, everything else): weight decay is for the first; gains and biases are pulled nowhere."""
    named = list(named_parameters)
    return [(n, p) for n, p in named if p.ndim >= 2], [(n, p) for n, p in named if p.ndim < 2]


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> Float[Tensor, ""]:
    """Scale all gradients together so that their norm is at most `max_norm`; returns the norm before that.

    (Pascanu et al. 2013, §3.2.) The returned norm is the one thing to look at: it is finite exactly when
    every gradient is and their squares do not overflow, so one `isfinite` a step decides whether the step
    may be applied. When it is not finite the gradients are spoilt. `max_norm=inf` measures only.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch._foreach_norm(gradients)
    norm = whole(torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms])))
    if norm.device.type == "cpu" and norm <= max_norm:
        return norm  # here a look is free and another pass over the gradients is not; on a GPU, the opposite
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_([local(gradient) for gradient in gradients], factor)
    return norm
