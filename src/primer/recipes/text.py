"""A run's text: made into shards when it starts, and the same one when it goes on."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from primer import tokens as tokenizers
from primer.corpus.parallel import NAMED as PAIRS
from primer.corpus.sources import NAMED
from primer.data.foreign import is_foreign, open_foreign
from primer.data.prepare import check_lengths, is_prepared, prepare
from primer.data.shards import TOKENIZER, ShardDirectory
from primer.errors import DataError, UsageError
from primer.recipes.config import PLACES, AnyConfig, RunConfig
from primer.recipes.directory import RunDirectory
from primer.tokens import open_tokenizer
from primer.tokens.beginning import beginning
from primer.tokens.char import CharTokenizer, UnknownCharacterError
from primer.tokens.tokenizer import END_OF_TEXT, Tokenizer
from primer.training.distributed import World

Tell = Callable[[str], None]


def prepare_data(
    config: RunConfig, world: World, tokenizer: Tokenizer | None = None, *, tell: Tell | None = None
) -> ShardDirectory:
    """The shards of the config's text: made by the first process, then opened by the others.

    `tokenizer`: one that exists already, of the run to start from; else the config says which kind to make. `tell`
    hears how far that is, where it takes long.
    """
    with world.first_goes_ahead():
        return _prepare(config, tokenizer, tell)


class Preparing:
    """Tells how far a text is on its way into shards, every ten seconds."""

    interval = 10.0

    def __init__(self, tell: Tell) -> None:
        self.tell, self.told = tell, time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self.told >= self.interval:
            self.told = time.monotonic()
            self.tell(f"the text is prepared, {stage}: " + (f"{done / total:.0%}" if total else f"{done:,}"))


def _prepare(config: RunConfig, tokenizer: Tokenizer | None, tell: Tell | None = None) -> ShardDirectory:
    data = config.data
    if is_prepared(data.source):
        return _opened(config, tokenizer)
    if is_foreign(data.source):
        shards = open_foreign(data.source, tokenizer or open_tokenizer(foreign_tokenizer(data.tokenizer)))
        check_lengths(shards.counts, data.source, config.model.context_length)
        return shards
    return prepare(
        data.source,
        tokenizer=tokenizer or data.tokenizer,
        validation_fraction=data.validation_fraction,
        unknown=data.unknown,
        encoding=data.encoding,
        encoding_errors=data.encoding_errors,
        field=data.field,
        context_length=config.model.context_length,
        progress=Preparing(tell) if tell else None,
    )


def foreign_tokenizer(asked: str) -> str:
    """The tokenizer of token files that others published: GPT-2's, unless one was asked for."""
    return "gpt2" if asked == "char" else asked


def _opened(config: RunConfig, tokenizer: Tokenizer | None) -> ShardDirectory:
    """Shards that exist. Their tokenizer is theirs: another one that was asked for is refused."""
    data = config.data
    shards = ShardDirectory.open(data.source)
    inherited = tokenizer is not None
    if tokenizer is None and data.tokenizer != "char":
        tokenizer = open_tokenizer(data.tokenizer)
    theirs = shards.tokenizer
    known = tokenizer.fingerprint == theirs.fingerprint if tokenizer else isinstance(theirs, CharTokenizer)
    if not known:
        raise UsageError(
            "these shards were made with another tokenizer than the one that was asked for",
            where=data.source,
            hint="the text itself, or primer prepare it with the tokenizer.json of the run to start from"
            if inherited
            else f"--data.tokenizer={Path(data.source) / TOKENIZER}",
        )
    check_lengths(shards.counts, data.source, config.model.context_length)
    return shards


def open_data(config: RunConfig, run: RunDirectory, world: World, *, moved: bool = False) -> ShardDirectory:
    """The shards that a run was trained on. DataError for a text that changed since then, and for an imported run.

    moved: they are to be looked for where `config` says now.
    """
    with world.first_goes_ahead():
        return _reopen(config, run, moved)


def _reopen(config: RunConfig, run: RunDirectory, moved: bool) -> ShardDirectory:
    if run.is_imported:
        raise DataError(
            "this run was imported, and has no text of its own",
            where=str(run.path),
            hint=f"primer eval {run.handle} --on=FILE",
        )
    facts = run.read_facts()["data"]
    changed = text_changed(config, run)
    shards = None if moved else _as_left(facts["path"], run)
    if shards is None:
        try:
            shards = _prepare(config, read_tokenizer(run))
        except UnknownCharacterError as error:
            raise changed from error
        except DataError as error:
            raise with_a_way_back(error, config) from None
    if shards.fingerprint != facts["fingerprint"]:
        raise changed
    return shards


def with_a_way_back(error: DataError, config: AnyConfig) -> DataError:
    """The error of a text that could not be read again; where one of its files is gone, it says what to do."""
    for name in PLACES:
        path = getattr(config.data, name, "")
        if path and path not in (*NAMED, *PAIRS) and not os.path.lexists(path):
            error.hint = f"put it back, or say where it is now: --data.{name.replace('_', '-')}=PATH"
            break
    return error


def text_changed(config: AnyConfig, run: RunDirectory) -> DataError:
    """The error for a run whose text is not what it was."""
    return DataError(
        f"the text of this run has changed: {config.data.source} is not what it was trained on",
        where=str(run.path),
        hint="put the old text back, or start a new run from these weights: primer train … --init-from",
    )


def _as_left(path: str, run: RunDirectory) -> ShardDirectory | None:
    """The shards at the place where a run has found them, if they are there and whole."""
    try:
        return open_foreign(path, read_tokenizer(run)) if is_foreign(path) else ShardDirectory.open(path)
    except DataError:
        return None


def opening(tokenizer: Tokenizer, prompt: str) -> str:
    """What a sample begins with that was given no prompt: the config's, else the beginning of a text.

    That is a new line, or the first token there is; but nothing at all where the tokenizer has an end-of-text token,
    from which `generation.text.streams` then starts.
    """
    try:
        if len(tokenizer.encode(prompt)):
            return prompt
    except DataError:
        pass
    return "" if END_OF_TEXT in tokenizer.special_tokens else tokenizer.decode(beginning(tokenizer))


def read_tokenizer(run: RunDirectory) -> Tokenizer:
    """The tokenizer that a run keeps."""
    try:
        text = run.tokenizer_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the tokenizer cannot be read: {error}", str(run.tokenizer_file), "another run: primer runs list"
        ) from None
    return tokenizers.from_json(text, where=str(run.tokenizer_file))
