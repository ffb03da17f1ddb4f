"""Another program's model as a run, so that every verb that takes a run takes it: sample, eval, train --init-from …"""

import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from primer import device as devices
from primer.assets import log, write_atomically
from primer.errors import DataError, UsageError
from primer.exchange.hub import fetch, hub_name
from primer.exchange.huggingface import read_config, read_gpt2
from primer.exchange.tensors import hashes
from primer.exchange.tokenizer_files import read_tokenizer
from primer.recipes import directory
from primer.recipes.config import DataConfig, RunConfig
from primer.recipes.directory import RunDirectory
from primer.recipes.loaded import Run
from primer.recipes.run import directory_name, now, versions
from primer.recipes.weights import model_fingerprint
from primer.tokens import Tokenizer, open_tokenizer
from primer.training import checkpoint

PADDING = 128
"""Fewer rows than this may stand behind the tokenizer's last one: tables are padded to multiples of 64 or 128."""


@dataclass(frozen=True)
class Origin:
    """Where a model comes from."""

    folder: Path
    name: str
    about: str
    facts: dict[str, str] = field(default_factory=dict)
    """For run.json: what it was on the hub."""


def import_model(
    source: str | Path,
    *,
    tokenizer: str | Path | None = None,
    revision: str | None = None,
    runs_dir: str | Path = "runs",
) -> Run:
    """Make a run of a GPT-2 as Hugging Face keeps it: weights at step 0, and no training to go on with.

    source: a folder, or a name on the Hugging Face hub (`owner/name`, or gpt2, gpt2-medium, gpt2-large, gpt2-xl),
    which is then fetched; `revision`: its branch, tag or commit. tokenizer: gpt2, byte, or a file of `primer tokenizer
    train`, where the folder has none. Raises DataError for a model that cannot be read, or that computes something
    which this GPT does not; nothing is left behind then.
    """
    origin = locate(source, revision)
    model = read_config(origin.folder)
    words = open_tokenizer(tokenizer) if tokenizer is not None else read_tokenizer(origin.folder)
    padding = model.vocab_size - words.vocab_size
    if padding and not (0 < padding < PADDING and model.vocab_size % 64 == 0):
        raise DataError(
            f"the model has {model.vocab_size} tokens and its tokenizer {words.vocab_size}: they belong to two models",
            where=str(tokenizer or origin.folder),
            hint="the tokenizer's files from where the weights come from",
        )
    if padding:
        log.warning("the last %d rows of the embedding are no token's: they are taken as padding", padding)
    _, weights = read_gpt2(origin.folder)
    config = RunConfig(recipe=origin.name, about=origin.about, model=model, data=DataConfig(source=""))
    run = directory.create(Path(runs_dir), directory_name(config))
    try:
        config = replace(config, data=replace(config.data, tokenizer=_named(words, run)))
        run.write_config(config)
        write_atomically(run.tokenizer_file, words.to_json())
        state = {"tokenizer": words.fingerprint, "model": model_fingerprint(model), "versions": versions()}
        checkpoint.save(run.checkpoints, 0, model=weights, optim={}, state={**state, "data": None, "step": 0})
        checkpoint.point(run.checkpoints, "best", 0)
        run.write_facts(_facts(run, config, origin, words))  # last: without it there is no run
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return Run(run)


def locate(source: str | Path, revision: str | None = None) -> Origin:
    """The folder that a path or a name on the hub means. A path that is there wins over a name."""
    path = Path(source)
    if not str(source):  # an unset variable of a shell, not the folder that Path("") is
        raise UsageError("no model is named by an empty word", hint="primer import FOLDER")
    if path.is_dir():
        if revision is not None:
            raise UsageError("a folder has no revisions", hint="leave --revision out")
        folder = path.resolve()
        return Origin(folder, folder.name or "model", f"imported from {folder}")
    if path.exists():
        raise DataError(
            "this is a file, not the folder of a model",
            str(path),
            "a folder with config.json, model.safetensors",
        )
    name = hub_name(str(source))
    if name is None:
        raise DataError(
            f"there is no folder {str(source)!r}", hint="a folder with config.json, or owner/name on the hub"
        )
    found = fetch(name, revision)
    about = f"imported from {name} at {found.commit}"
    return Origin(found.folder, name.rpartition("/")[2], about, {"hub": name, "commit": found.commit})


def _named(tokenizer: Tokenizer, run: RunDirectory) -> str:
    """What `data.tokenizer` calls it: its kind where that says everything, else the run's own file."""
    return tokenizer.name if tokenizer.name in ("char", "byte") else str(run.tokenizer_file.resolve())


def _facts(run: RunDirectory, config: RunConfig, origin: Origin, tokenizer: Tokenizer) -> dict[str, Any]:
    files = {"folder": str(origin.folder), "sha256": hashes(origin.folder)}
    return {
        "id": run.id,
        "recipe": config.recipe,
        "started": now(),
        "status": "imported",
        "command": sys.argv,
        "imported": {"format": "huggingface", **origin.facts, **files},
        "data": None,
        "tokenizer": tokenizer.fingerprint,
        "versions": versions(),
        "hardware": devices.describe(devices.choose("cpu")),
    }
