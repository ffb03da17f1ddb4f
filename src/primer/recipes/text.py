"""A run's text: made into shards when it starts, and the same one when it goes on."""

from pathlib import Path

from primer import tokens as tokenizers
from primer.data.foreign import is_foreign, open_foreign
from primer.data.prepare import check_lengths, is_prepared, prepare
from primer.data.shards import TOKENIZER, ShardDirectory
from primer.errors import DataError, UsageError
from primer.recipes.config import RunConfig
from primer.recipes.directory import RunDirectory
from primer.tokens import open_tokenizer
from primer.tokens.beginning import beginning
from primer.tokens.char import CharTokenizer, UnknownCharacterError
from primer.tokens.tokenizer import END_OF_TEXT, Tokenizer
from primer.training.distributed import World


def prepare_data(config: RunConfig, world: World, tokenizer: Tokenizer | None = None) -> ShardDirectory:
    """The shards of the config's text: made by the first process, then opened by the others.

    `tokenizer`: one that exists already, of the run to start from; else the config says which kind to make.
    """
    with world.first_goes_ahead():
        return _prepare(config, tokenizer)


def _prepare(config: RunConfig, tokenizer: Tokenizer | None) -> ShardDirectory:
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


def open_data(config: RunConfig, run: RunDirectory, world: World) -> ShardDirectory:
    """The shards that a run was trained on. DataError for a text that changed since then, and for an imported run."""
    with world.first_goes_ahead():
        return _reopen(config, run)


def _reopen(config: RunConfig, run: RunDirectory) -> ShardDirectory:
    if run.is_imported:
        raise DataError(
            "this run was imported, and has no text of its own",
            where=str(run.path),
            hint=f"primer eval {run.handle} --on=FILE",
        )
    facts = run.read_facts()["data"]
    changed = DataError(
        f"the text of this run has changed: {config.data.source} is not what it was trained on",
        where=str(run.path),
        hint="put the old text back, or start a new run from these weights: primer train … --init-from",
    )
    try:
        shards = (
            open_foreign(facts["path"], read_tokenizer(run))
            if is_foreign(facts["path"])
            else ShardDirectory.open(facts["path"])
        )
    except DataError:
        try:
            shards = _prepare(config, read_tokenizer(run))
        except UnknownCharacterError as error:
            raise changed from error
    if shards.fingerprint != facts["fingerprint"]:
        raise changed
    return shards


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
