"""Checkpoints that survive: written whole or not at all, verified before they are trusted.

The order is the promise (each line leaves the last good checkpoint untouched): write the files into
`step_NNNNNN.tmp-<pid>/` → write `manifest.json` with the size and SHA-256 of each → fsync the files, then the
directory → rename → fsync the parent → read it back → only then point `latest` at it and remove old ones.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from primer.assets import sha256_of, sync, write_atomically
from primer.errors import DataError

FORMAT = 1
REMEDY = "primer resume, which goes on from the run's newest whole checkpoint"
OPTIMIZER = "optim.safetensors"
FILES = ("model.safetensors", OPTIMIZER, "state.json")


OTHER = "the checkpoint of a run with this very model"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved. `model` is what one evaluates and samples; `optim` and `state` are what training needs."""

    path: Path
    model: dict[str, Tensor]
    optim: dict[str, Tensor]
    state: dict[str, Any]


def step_directory(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lives."""
    return root / f"step_{step:06d}"


def save(
    root: Path, step: int, *, model: dict[str, Tensor], optim: dict[str, Tensor], state: dict[str, Any]
) -> Path:
    """Write one checkpoint and point `latest` at it. Returns its directory."""
    root.mkdir(parents=True, exist_ok=True)
    final = step_directory(root, step)
    temporary = root / f"{final.name}.tmp-{os.getpid()}"
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir()
    try:
        _write_tensors(temporary / "model.safetensors", model)
        _write_tensors(temporary / OPTIMIZER, optim)
        (temporary / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        write_manifest(temporary, step)
        for name in (*FILES, "manifest.json"):
            sync(temporary / name)
        sync(temporary)
        before = root / f"{final.name}.old-{os.getpid()}"
        if (
            final.exists()
        ):  # the same step again, as it is evaluated by now: at every moment one of the two is there
            final.rename(before)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        put_back(root)
        raise
    sync(root)
    read_manifest(final)
    point(root, "latest", step)
    put_back(root)
    return final


def put_back(root: Path) -> None:
    """Where a checkpoint was moved aside for a newer one of its step: back, if that never came, and else away."""
    for path in root.glob("step_*.old-*"):
        final = root / path.name.partition(".")[0]
        if final.exists():
            shutil.rmtree(path)
        else:
            path.rename(final)


def load(path: Path, *, to_train: bool = True) -> Checkpoint:
    """Read a checkpoint into memory, after its sizes and hashes were found to be those of its manifest.

    Not `to_train`: of the optimizer's state, which is most of a checkpoint, the size alone is looked at, and `optim` is
    empty.
    """
    manifest = read_manifest(path)
    for name, fact in manifest["files"].items():
        check_file(path / name, fact, hashed=to_train or name != OPTIMIZER)
    return Checkpoint(
        path,
        model=_read_tensors(path / "model.safetensors"),
        optim=_read_tensors(path / OPTIMIZER) if to_train else {},
        state=json.loads((path / "state.json").read_text(encoding="utf-8")),
    )


def write_manifest(path: Path, step: int) -> None:
    """Size and SHA-256 of each file, and a SHA-256 of the manifest itself."""
    facts = {"format": FORMAT, "step": step, "files": {name: _fact(path / name) for name in FILES}}
    text = json.dumps({**facts, "sha256": _digest(facts)}, indent=1)
    (path / "manifest.json").write_text(text, encoding="utf-8")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint directory, or a `DataError` that names it."""
    file = path / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        written, known = manifest.pop("sha256"), int(manifest["format"])
        whole = set(manifest["files"]) == set(FILES)
    except FileNotFoundError:
        raise DataError(
            "this checkpoint has no manifest, so it was never finished", str(path), REMEDY
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"the manifest cannot be read: {error}", str(file), REMEDY) from None
    if written != _digest(manifest):
        raise DataError("the manifest was altered", str(file), REMEDY)
    if known > FORMAT:
        raise DataError(
            f"this checkpoint has format {known}, this version of primer reads up to {FORMAT}",
            where=str(path),
            hint="use the version of primer that wrote it, or a newer one",
        )
    if not whole:
        raise DataError(f"the manifest must list {', '.join(FILES)} and nothing else", str(file), REMEDY)
    return manifest


def check_file(file: Path, fact: dict[str, Any], *, hashed: bool = True) -> None:
    """Compare a file with its line in the manifest."""
    if not file.is_file():
        raise DataError("a file of the checkpoint is missing", where=str(file), hint=REMEDY)
    size = file.stat().st_size
    if size != fact["size"]:
        raise DataError(f"the file has {size} bytes, not {fact['size']}", where=str(file), hint=REMEDY)
    if hashed and sha256_of(file) != fact["sha256"]:
        raise DataError(
            "the file was altered: its SHA-256 is not the manifest's", where=str(file), hint=REMEDY
        )


def newest(root: Path, tell: Callable[[str], None] = lambda _: None) -> Path | None:
    """The newest checkpoint that verifies; each one passed over on the way is told."""
    for path in reversed(every(root)):
        try:
            for name, fact in read_manifest(path)["files"].items():
                check_file(path / name, fact)
        except DataError as error:
            tell(f"passing over {path.name}: {error.cause} ({error.where})")
            continue
        return path
    return None


def every(root: Path) -> list[Path]:
    """All finished checkpoint directories, oldest first."""
    if not root.is_dir():
        return []
    found = [path for path in root.glob("step_*") if path.is_dir() and path.name[5:].isdigit()]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The step that a checkpoint's directory is named after."""
    return int(path.name[5:])


def point(root: Path, name: str, step: int) -> None:
    """Make the text pointer `latest` or `best` name a step, atomically."""
    write_atomically(root / name, step_directory(root, step).name + "\n")


def follow(root: Path, name: str) -> Path | None:
    """Where a pointer leads, or None where it is missing or leads nowhere."""
    try:
        target = root / (root / name).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # not there, or not text
        return None
    return target if target.is_dir() and target.parent == root else None


def purge(root: Path, keep: int, apart: int = 1) -> None:
    """Remove all but the newest `keep` checkpoints, as many of those at every `apart`-th step, and the best one."""
    there = every(root)
    kept = {
        follow(root, "best"),
        *there[-keep:],
        *[path for path in there if step_of(path) % apart == 0][-keep:],
    }
    for path in there:
        if path not in kept:
            _remove(path)


def forget_after(root: Path, step: int) -> None:
    """Remove the checkpoints of later steps: damaged ones, of a future that did not happen."""
    for path in every(root):
        if step_of(path) > step:
            _remove(path)


def _remove(path: Path) -> None:
    (path / "manifest.json").unlink(missing_ok=True)  # half removed must not look whole
    shutil.rmtree(path)


def sweep(root: Path) -> None:
    """Remove what processes that died while saving left behind."""
    if root.is_dir():
        put_back(root)
        for path in root.glob("*.tmp-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Everything that a model needs and a config does not say, by name; tied weights once."""
    persistent = model.state_dict().keys()
    buffers = {name: tensor for name, tensor in model.named_buffers() if name in persistent}
    return {**dict(model.named_parameters()), **buffers}


def match(have: dict[str, Tensor], want: dict[str, Tensor], where: str) -> None:
    """Refuse tensors that are not exactly the ones a model has: names, shapes, dtypes, finite numbers."""
    _no_strangers(sorted(want.keys() - have.keys()), "lacks", where)
    _no_strangers(sorted(have.keys() - want.keys()), "has, and this model has not,", where)
    for name, tensor in have.items():
        if tensor.shape != want[name].shape:
            raise DataError(
                f"{name} has the shape {tuple(tensor.shape)}, this model needs {tuple(want[name].shape)}",
                where=where,
                hint=OTHER,
            )
        if tensor.dtype != want[name].dtype:
            kinds = [str(each.dtype).removeprefix("torch.") for each in (tensor, want[name])]
            raise DataError(f"{name} holds {kinds[0]}, this model needs {kinds[1]}", where, OTHER)
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise DataError(
                f"{name} contains a number that is not finite", where, "an older checkpoint, or a new run"
            )


def _no_strangers(names: list[str], verb: str, where: str) -> None:
    if names:
        rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise DataError(f"the checkpoint {verb} {', '.join(names[:3])}{rest}", where, OTHER)


def _write_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file; what the disk refuses is the OSError that it would be anywhere else."""
    try:
        safetensors.torch.save_file(_plain(tensors), file)
    except safetensors.SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(file)) from error


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        # From bytes, not memory-mapped: a file that shrinks while mapped kills its reader with SIGBUS.
        return safetensors.torch.load(file.read_bytes())
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"this is not a safetensors file: {error}", str(file), REMEDY) from None


def _fact(file: Path) -> dict[str, Any]:
    return {"size": file.stat().st_size, "sha256": sha256_of(file)}


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
