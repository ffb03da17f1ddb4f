"""Whatever a file or a flag holds: one cause, one remedy, the right code, no traceback, nothing half-made."""

import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from primer.cli.main import main
from primer.recipes.directory import RunDirectory
from primer.tokens import CharTokenizer
from primer.training import checkpoint


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """What `primer` says to words that it refuses with a code."""
    capsys.readouterr()
    assert main(list(words)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    lines = err.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith("error:")]
    assert len(lines) - start <= 3
    assert "None" not in err
    assert lines[-1].startswith("try:"), "one thing to try"
    return "\n".join(lines[start:])


TEXTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the text is empty"),
    "one character": (b"a", "one distinct character"),
    "one distinct character": (b"a" * 10_000, "one distinct character"),
    "shorter than a window": (b"ab" * 8, "one window needs 17"),
    "validation shorter than a window": (b"ab" * 60, "the validation part of the text holds 12 tokens"),
    "only newlines": (b"\n" * 10_000, "nothing but white space"),
    "binary": (b"\x7fELF\x02\x01\x01\0\0" * 99, "binary, not text: a NUL at byte 7"),
    "invalid UTF-8": (b"caf\xe9 au lait " * 99, "0xe9 at offset 3 is not utf-8"),
    "UTF-16 without its mark": (("hello " * 99).encode("utf-16-le"), "a NUL at byte 1"),
    "a mark and nothing": (b"\xff\xfe", "the text is empty"),
    "half a UTF-16 character": (b"\xff\xfea\0b", "is not utf-16-le"),
    "NULs": (b"\0" * 4096, "binary, not text: a NUL at byte 0"),
}


@pytest.mark.parametrize(("content", "cause"), TEXTS.values(), ids=TEXTS.keys())
def test_a_text_that_cannot_be_trained_on(
    content: bytes, cause: str, quick: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    said = refused(capsys, 4, "train", str(tmp_path / "text.txt"), f"--runs-dir={tmp_path / 'runs'}", *quick)
    assert cause in said
    assert f"where:  {tmp_path / 'text.txt'}" in said
    assert "try:    " in said
    assert not (tmp_path / "runs").exists()


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


PLACES: dict[str, tuple[Callable[[Path], object] | None, str]] = {
    "a folder without text": (Path.mkdir, "a folder without text"),
    "a FIFO": (make_fifo, "this is a FIFO, not a file"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "this is a device, not a file"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "a link to itself": (lambda path: path.symlink_to(path), "no such file"),
    "nothing": (None, "no such file"),
}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such places")
@pytest.mark.parametrize(("make", "cause"), PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("verb", ["train", "eval"])
def test_a_place_that_is_no_text(
    make: Callable[[Path], object] | None,
    cause: str,
    verb: str,
    quick: tuple[str, ...],
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "text.txt"
    if make is not None:
        make(place)
    if verb == "train":
        said = refused(capsys, 4, "train", str(place), f"--runs-dir={tmp_path / 'runs'}", *quick)
        assert cause in said
    else:
        said = refused(capsys, 4, "eval", str(trained), f"--on={place}")
    assert place.name in said or "/dev/zero" in said
    assert not (tmp_path / "runs").exists()


def test_a_text_without_permission(primer_process: Any, quick: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("secret")
    (tmp_path / "text.txt").chmod(0)
    done = primer_process(["train", "text.txt", "--runs-dir=runs", *quick], cwd=tmp_path, powerless=True)
    assert done.code == 3
    assert done.err.splitlines() == [
        "error:  no permission to read this",
        f"where:  {tmp_path / 'text.txt'}",
        f"try:    chmod u+r '{tmp_path / 'text.txt'}'",
    ]
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("it was the best of times, it was the worst of times\n" * 60)
    return file


@pytest.fixture(scope="module")
def trained(source: Path, quick: tuple[str, ...]) -> Path:
    """A run with checkpoints of the steps 4, 8 (and best) and 9, which a test must not change."""
    runs = source.parent / "runs"
    words = [
        "train",
        str(source),
        "--train.steps=9",
        "--train.evaluate-every=8",
        f"--runs-dir={runs}",
        *quick,
    ]
    words.remove("--train.evaluate-every=10")
    assert main([*words, "--train.keep=3"]) == 0
    (run,) = runs.iterdir()
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunDirectory:
    """A copy of the trained run, to be damaged."""
    shutil.copytree(trained, tmp_path / trained.name)
    return RunDirectory(tmp_path / trained.name)


def seal(path: Path) -> None:
    """Make the manifest fit again, as an attacker would or a bug."""
    checkpoint.write_manifest(path, int(path.name[5:]))


def change_tensors(name: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    """Damage that changes tensors of a file, with hashes that fit."""

    def damage(path: Path) -> None:
        tensors = safetensors.torch.load_file(path / name)
        change(tensors)
        safetensors.torch.save_file(tensors, path / name)
        seal(path)

    return damage


def rewrite(name: str, change: Callable[[bytes], bytes], sealed: bool = False) -> Callable[[Path], None]:
    """Damage that changes the bytes of a file."""

    def damage(path: Path) -> None:
        (path / name).write_bytes(change((path / name).read_bytes()))
        if sealed:
            seal(path)

    return damage


def flip(content: bytes) -> bytes:
    """Another bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def header(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A safetensors file with another header."""
    (size,) = struct.unpack("<Q", content[:8])
    fields = json.loads(content[8 : 8 + size])
    change(fields)
    text = json.dumps(fields).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def overlap(fields: dict[str, Any]) -> None:
    """Two tensors in one place."""
    first, second = [name for name in fields if name != "__metadata__"][:2]
    fields[second]["data_offsets"] = fields[first]["data_offsets"]


def vocabulary(path: Path) -> None:
    """The tokenizer of another run, with which nothing in this checkpoint was made."""
    (path.parents[1] / "tokenizer.json").write_text(CharTokenizer("abc").to_json())


PICKLE = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94."
WEIGHT = "layers.0.attention.output.weight"

CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty directory": (lambda path: [file.unlink() for file in path.iterdir()], "no manifest"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "no manifest, so it was never finished"),
    "a manifest of nothing": (rewrite("manifest.json", lambda _: b""), "the manifest cannot be read"),
    "a manifest that is a list": (rewrite("manifest.json", lambda _: b"[1]"), "the manifest cannot be read"),
    "a manifest that is no UTF-8": (
        rewrite("manifest.json", lambda _: b"\xff{}"),
        "the manifest cannot be read",
    ),
    "a missing file": (lambda path: (path / "state.json").unlink(), "a file of the checkpoint is missing"),
    "a folder for a file": (
        lambda path: ((path / "state.json").unlink(), (path / "state.json").mkdir()),
        "a file of the checkpoint is missing",
    ),
    "truncated": (rewrite("model.safetensors", lambda content: content[:-1]), "bytes, not"),
    "emptied": (rewrite("optim.safetensors", lambda _: b""), "the file has 0 bytes"),
    "a bit flip": (rewrite("model.safetensors", flip), "SHA-256 is not the manifest's"),
    "a bit flip in the state": (rewrite("state.json", flip), "SHA-256 is not the manifest's"),
    "header length 2^63": (
        rewrite("model.safetensors", lambda content: struct.pack("<Q", 2**63) + content[8:], sealed=True),
        "not a safetensors file",
    ),
    "overlapping offsets": (
        rewrite("model.safetensors", lambda content: header(content, overlap), sealed=True),
        "not a safetensors file",
    ),
    "a pickle": (rewrite("model.safetensors", lambda _: PICKLE, sealed=True), "not a safetensors file"),
    "a missing tensor": (
        change_tensors("model.safetensors", lambda tensors: tensors.pop(WEIGHT)),
        f"the checkpoint lacks {WEIGHT}",
    ),
    "an extra tensor": (
        change_tensors("model.safetensors", lambda tensors: tensors.update(extra=torch.zeros(2))),
        "has, and this model has not, extra",
    ),
    "names of a compiled model": (
        change_tensors("model.safetensors", lambda t: t.update({f"_orig_mod.{WEIGHT}": t.pop(WEIGHT)})),
        f"the checkpoint lacks {WEIGHT}",
    ),
    "a wrong shape": (
        change_tensors("model.safetensors", lambda tensors: tensors.update({WEIGHT: torch.zeros(2, 3)})),
        f"{WEIGHT} has the shape (2, 3), this model needs (16, 16)",
    ),
    "a weight that is NaN": (
        change_tensors("model.safetensors", lambda tensors: tensors[WEIGHT][3, 3].fill_(torch.nan)),
        f"{WEIGHT} contains a number that is not finite",
    ),
    "a weight that is infinite": (
        change_tensors("model.safetensors", lambda tensors: tensors[WEIGHT][3, 3].fill_(-torch.inf)),
        f"{WEIGHT} contains a number that is not finite",
    ),
    "another vocabulary": (vocabulary, "tokenizer.json is not the one that these weights were trained with"),
}


@pytest.mark.parametrize(("damage", "cause"), CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
def test_a_checkpoint_that_cannot_be_trusted_is_not_sampled_from(
    damage: Callable[[Path], object], cause: str, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    best = checkpoint.follow(run.checkpoints, "best")
    assert best is not None
    damage(best)
    before = {file: file.stat().st_mtime_ns for file in run.path.rglob("*")}
    said = refused(capsys, 4, "sample", str(run.path), "it was")
    assert cause in said
    assert str(run.path) in said
    assert {file: file.stat().st_mtime_ns for file in run.path.rglob("*")} == before, "nothing was touched"


@pytest.mark.parametrize(
    "name",
    ["empty directory", "no manifest", "a manifest of nothing", "a missing file", "emptied", "a bit flip"],
)
def test_a_resumed_run_takes_the_older_checkpoint_and_says_so(
    name: str, run: RunDirectory, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latest = checkpoint.follow(run.checkpoints, "latest")
    assert latest is not None
    damage, cause = CHECKPOINTS[name]
    damage(latest)
    capsys.readouterr()
    assert main(["resume", str(run.path)]) == 0
    err = capsys.readouterr().err
    assert f"passing over {latest.name}: " in err
    assert cause in err
    assert "going on after step 8" in err
    again, whole = (RunDirectory(path).metrics.rows() for path in (run.path, trained))
    assert [row.get("loss") for row in again] == [row.get("loss") for row in whole]


def change_state(path: Path) -> None:
    state = json.loads((path / "state.json").read_text())
    del state["progress"]
    (path / "state.json").write_text(json.dumps(state))
    seal(path)


UNFIT = {
    **{
        name: CHECKPOINTS[name]
        for name in ("a missing tensor", "an extra tensor", "a wrong shape", "a weight that is NaN")
    },
    "an optimizer that is NaN": (
        change_tensors("optim.safetensors", lambda tensors: next(iter(tensors.values())).fill_(torch.nan)),
        "contains a number that is not finite",
    ),
    "an optimizer of other names": (
        change_tensors("optim.safetensors", lambda t: t.pop(next(n for n in t if n.startswith("optim.")))),
        "the optimizer state lacks",
    ),
    "a mean without its weights": (
        change_tensors("optim.safetensors", lambda tensors: tensors.pop(f"weights.{WEIGHT}")),
        f"the checkpoint lacks {WEIGHT}",
    ),
    "a state without a word": (change_state, "state.json is not one of this version (KeyError: 'progress')"),
}


@pytest.mark.parametrize(("damage", "cause"), UNFIT.values(), ids=UNFIT.keys())
def test_a_checkpoint_that_does_not_fit_is_not_resumed_from(
    damage: Callable[[Path], object], cause: str, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is whole, somebody sealed it: not one to pass over, but one to say something about."""
    latest = checkpoint.follow(run.checkpoints, "latest")
    assert latest is not None
    damage(latest)
    said = refused(capsys, 4, "resume", str(run.path), "--train.steps=20")
    assert cause in said
    assert str(latest) in said


@pytest.mark.parametrize("verb", ["sample", "resume"])
def test_a_format_from_the_future(
    verb: str, run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 2)
        for path in checkpoint.every(run.checkpoints):
            seal(path)
    said = refused(capsys, 4, verb, str(run.path), *(["it was"] if verb == "sample" else []))
    assert ("format 2" in said) == (verb == "sample")


def test_a_pickle_is_never_opened(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loading is not executing: the pickle would leave a file behind."""
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "sprung"), "w"))

    best = checkpoint.follow(run.checkpoints, "best")
    assert best is not None
    (best / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    seal(best)
    refused(capsys, 4, "sample", str(run.path), "it was")
    torch.save(Trap(), best / "model.safetensors")
    seal(best)
    refused(capsys, 4, "sample", str(run.path), "it was")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("tokenizer.json", b"", 4),
        ("tokenizer.json", b"{}", 4),
        ("tokenizer.json", b"[" * 100_000, 4),
        ("config.toml", b"[train\n", 4),
        ("config.toml", b"\xff\xfe", 4),
        ("config.toml", b"[train]\nstesp = 3\n", 4),
        ("run.json", b"", 4),
        ("run.json", b"\xff", 4),
        ("checkpoints/best", b"../../..\n", None),
        ("checkpoints/best", b"step_999999\n", None),
        ("checkpoints/best", b"", None),
        ("checkpoints/best", b"a\0b", None),
    ],
)
@pytest.mark.parametrize("verb", ["sample", "resume"])
def test_a_damaged_file_of_a_run(
    name: str,
    content: bytes,
    code: int | None,
    verb: str,
    run: RunDirectory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (run.path / name).write_bytes(content)
    words = [verb, str(run.path), "it was" if verb == "sample" else "--train.steps=10"]
    if (verb, name) == ("sample", "run.json"):
        pytest.skip("this verb does not read that file")
    if code is None:  # a pointer that leads nowhere: the newest checkpoint serves
        assert main(words) == 0
    else:
        assert run.path.name in refused(capsys, code, *words)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int32])
def test_a_weight_of_another_dtype_is_refused(
    dtype: torch.dtype, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    best = checkpoint.follow(run.checkpoints, "best")
    assert best is not None
    change_tensors("model.safetensors", lambda t: t.update({WEIGHT: t[WEIGHT].to(dtype)}))(best)
    assert WEIGHT in refused(capsys, 4, "sample", str(run.path), "it was")


@pytest.mark.parametrize("name", ["tokenizer.json", "checkpoints/best"])
def test_a_damaged_file_that_is_no_utf_8(
    name: str, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.path / name).write_bytes(b"\xff" + (run.path / name).read_bytes())
    assert main(["sample", str(run.path), "it was", "--tokens=1"]) == (4 if name == "tokenizer.json" else 0)
    assert name == "checkpoints/best" or name in capsys.readouterr().err


@pytest.mark.parametrize(("name", "verb"), [("run.json", "resume"), ("manifest.json", "sample")])
def test_deep_nesting_is_damage(
    name: str, verb: str, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    best = checkpoint.follow(run.checkpoints, "best")
    assert best is not None
    ((best if name == "manifest.json" else run.path) / name).write_bytes(b"[" * 100_000)
    assert name in refused(capsys, 4, verb, str(run.path), *(["it was"] if verb == "sample" else []))


@pytest.mark.parametrize("content", [b"[]", b"3", b"{}"])
def test_run_json_that_holds_something_else(
    content: bytes, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.path / "run.json").write_bytes(content)
    assert "run.json" in refused(capsys, 4, "resume", str(run.path), "--train.steps=10")


@pytest.mark.parametrize(
    "flag",
    [
        "--seed=-1",
        "--model.init-std=-1",
        "--model.embedding-std=-1",
        "--model.norm-eps=0",
        f"--seed={2**64}",
        f"--model.d-ff={10**19}",
        f"--train.batch-size={10**12}",
    ],
)
def test_an_impossible_value_is_wrong_usage(
    flag: str, quick: tuple[str, ...], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(
        capsys, 2, "train", str(source), f"--runs-dir={tmp_path / 'runs'}", *quick, "--train.steps=2", flag
    )
    assert flag[2:].partition("=")[0].replace("-", "_") in said


def test_a_run_that_diverges_has_the_code_of_one(
    quick: tuple[str, ...], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(source), f"--runs-dir={tmp_path / 'runs'}", "--train.steps=40", *quick]
    said = refused(capsys, 5, *words, "--optim.lr=1e308")
    assert "not finite 10 steps in a row" in said


def test_the_last_good_checkpoint_of_a_run_that_diverged_is_good(
    quick: tuple[str, ...], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(source), f"--runs-dir={tmp_path / 'runs'}", "--train.steps=40", *quick]
    said = refused(capsys, 5, *words, "--optim.lr=1e308")
    named = Path(said.partition("the last good checkpoint is ")[2].splitlines()[0])
    assert all(tensor.isfinite().all() for tensor in checkpoint.load(named).model.values())


@pytest.mark.parametrize("line", ["steps = " + "9" * 5000, "keep = 0x" + "f" * 5000])
def test_a_number_that_python_will_not_read(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text(f"[train]\n{line}\n")
    assert "mine.toml" in refused(capsys, 2, "train", str(tmp_path / "mine.toml"), "--print-config")


@pytest.mark.skipif(os.name == "nt", reason="Windows' names are Unicode")
def test_a_folder_whose_name_is_no_utf_8(quick: tuple[str, ...], source: Path, tmp_path: Path) -> None:
    place = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["primer", "train", f"--runs-dir={place}"])
        assert main(["train", str(source), "--train.steps=2", f"--runs-dir={place}", *quick]) == 0


@pytest.mark.parametrize(
    "what",
    [
        "a tracker that is not installed",
        "a text whose name is no UTF-8",
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="Windows' names are Unicode")
def test_a_refused_run_leaves_no_directory(
    what: str, quick: tuple[str, ...], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, flags = source, ["--train.trackers=wandb"]
    monkeypatch.setitem(sys.modules, "wandb", None)
    if what.startswith("a text"):
        text, flags = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")), []
        shutil.copy(source, text)
    assert main(["train", str(text), f"--runs-dir={tmp_path / 'runs'}", *quick, *flags]) in (2, 3)
    assert not list(tmp_path.glob("runs/*"))
