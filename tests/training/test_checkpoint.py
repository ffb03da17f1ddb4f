"""A checkpoint is written whole or not at all, and nothing that was altered is believed."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from primer.errors import DataError
from primer.training import checkpoint

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor([1.5, -2.0])}


def save(root: Path, step: int = 5) -> Path:
    return checkpoint.save(
        root, step, model=TENSORS, optim={"m": torch.ones(3)}, state={"step": step, "x": [1]}
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    loaded = checkpoint.load(save(tmp_path))
    assert {name: t.tolist() for name, t in loaded.model.items()} == {
        n: t.tolist() for n, t in TENSORS.items()
    }
    assert loaded.state == {"step": 5, "x": [1]}
    assert checkpoint.follow(tmp_path, "latest") == tmp_path / "step_000005"


@pytest.mark.parametrize("name", [*checkpoint.FILES, "manifest.json"])
def test_any_flipped_bit_or_truncation_is_refused(tmp_path: Path, name: str) -> None:
    path = save(tmp_path)
    good = (path / name).read_bytes()
    chance = random.Random(0)
    for trial in range(25):
        bad = bytearray(good)
        if trial % 5 == 4:
            bad = bad[: chance.randrange(len(bad))]
        else:
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        (path / name).write_bytes(bad)
        with pytest.raises(DataError) as caught:
            checkpoint.load(path)
        assert name in str(caught.value.where)
    (path / name).write_bytes(good)
    checkpoint.load(path)


def test_the_newest_whole_one_is_taken_and_the_rest_is_told(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(tmp_path, step)
    data = bytearray((tmp_path / "step_000015" / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "step_000015" / "model.safetensors").write_bytes(data)
    (tmp_path / "step_000010" / "manifest.json").unlink()
    told: list[str] = []
    assert checkpoint.newest(tmp_path, told.append) == tmp_path / "step_000005"
    assert len(told) == 2
    assert "SHA-256" in told[0]
    assert "no manifest" in told[1]


def test_whoever_does_not_train_reads_no_optimizer(tmp_path: Path) -> None:
    path = save(tmp_path)
    optimizer = path / "optim.safetensors"
    size = optimizer.stat().st_size
    optimizer.write_bytes(bytes(size))
    found = checkpoint.load(path, to_train=False)
    assert found.optim == {}
    assert found.model
    with pytest.raises(DataError, match="SHA-256"):
        checkpoint.load(path)
    optimizer.write_bytes(bytes(size - 1))
    with pytest.raises(DataError, match="bytes, not"):
        checkpoint.load(path, to_train=False)


def test_purge_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    checkpoint.point(tmp_path, "best", 2)
    checkpoint.purge(tmp_path, keep=1)
    assert [path.name for path in checkpoint.every(tmp_path)] == ["step_000002", "step_000004"]


CRASH = """
import os, sys
from pathlib import Path
import torch
from primer.training import checkpoint

def save(step):
    checkpoint.save(Path(sys.argv[1]), step, model={"a": torch.full((4,), float(step))}, optim={}, state={"step": step})

def dying(work, calls):
    def wrapper(*args, **kwargs):
        calls[0] -= 1
        if calls[0] < 0:
            os._exit(9)
        return work(*args, **kwargs)
    return wrapper

save(1)
for fatal in range(100):  # the process dies before its first, second, … touch of the disk
    child = os.fork()
    if child == 0:
        calls = [fatal]
        for owner, name in ((os, "fsync"), (os, "replace"), (Path, "rename"), (Path, "mkdir"), (Path, "write_text"),
                            (checkpoint.safetensors.torch, "save_file"), (checkpoint, "read_manifest"),
                            (checkpoint, "point"), (checkpoint.shutil, "rmtree")):
            setattr(owner, name, dying(getattr(owner, name), calls))
        save(2)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    root = Path(sys.argv[1])
    newest = checkpoint.newest(root)
    latest = checkpoint.follow(root, "latest")
    for path in (newest, latest):
        loaded = checkpoint.load(path)
        assert loaded.model["a"].tolist() == [float(loaded.state["step"])] * 4, path
    checkpoint.sweep(root)
    assert not list(root.glob("*.tmp-*"))
    if code == 0:
        assert latest.name == "step_000002"
        print(fatal)
        break
"""


def test_death_at_any_touch_of_the_disk_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 12, "every line of the protocol is a place to die"


def test_death_while_a_step_is_saved_again_leaves_one_of_the_two(tmp_path: Path) -> None:
    """It is the only checkpoint there is; whoever goes on sweeps first."""
    again = CRASH.replace("save(2)", "save(1)").replace(
        "    newest = checkpoint", "    checkpoint.sweep(root)\n    newest = checkpoint"
    )
    again = again.replace('"step_000002"', '"step_000001"')
    done = subprocess.run(
        [sys.executable, "-c", again, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 14
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step_000001"]


def test_an_interrupt_while_a_step_is_saved_again_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path)
    ordinary = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if ".tmp-" in self.name:
            raise KeyboardInterrupt
        return ordinary(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step_000005"]
    checkpoint.load(tmp_path / "step_000005")


def test_sweep_removes_what_the_dead_left(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "step_000006.tmp-1234").mkdir()
    (tmp_path / "latest.tmp-1234").write_text("x")
    checkpoint.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step_000005"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95\x10\x00\x00\x00cposix\nsystem\n.",  # a pickle
        (2**63).to_bytes(8, "little") + b"{}",  # a header length beyond any file
        (90).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        + b'"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}'.ljust(40)
        + b"\0" * 6,  # overlapping offsets
    ],
    ids=["empty", "pickle", "header length", "overlap"],
)
def test_what_is_no_safetensors_file_is_refused_even_with_a_right_hash(
    tmp_path: Path, content: bytes
) -> None:
    path = save(tmp_path)
    (path / "model.safetensors").write_bytes(content)
    checkpoint.write_manifest(path, 5)  # as an attacker would, or a bug
    with pytest.raises(DataError, match="not a safetensors file") as caught:
        checkpoint.load(path)
    assert "model.safetensors" in str(caught.value.where)


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path)
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    checkpoint.write_manifest(path, 5)
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    with pytest.raises(DataError, match="format 2, this version of primer reads up to 1"):
        checkpoint.load(path)


def test_match_names_what_does_not_fit() -> None:
    want = {"a": torch.zeros(2, 3), "b": torch.zeros(1)}
    with pytest.raises(DataError, match="lacks b"):
        checkpoint.match({"a": torch.zeros(2, 3)}, want, "x")
    with pytest.raises(DataError, match="has, and this model has not, c"):
        checkpoint.match({**want, "c": torch.zeros(1)}, want, "x")
    with pytest.raises(DataError, match=r"a has the shape \(3, 2\), this model needs \(2, 3\)"):
        checkpoint.match({"a": torch.zeros(3, 2), "b": torch.zeros(1)}, want, "x")
    with pytest.raises(DataError, match="b contains a number that is not finite"):
        checkpoint.match({"a": torch.zeros(2, 3), "b": torch.tensor([torch.nan])}, want, "x")
