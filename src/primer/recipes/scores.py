"""A run's scores: on its own text, on another one, on tasks with right answers, and in another program's harness."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from primer.corpus.document import SEPARATOR, Document
from primer.corpus.sources import NAMED, open_source
from primer.data.batches import evaluation_windows
from primer.data.foreign import is_foreign, open_foreign
from primer.data.prepare import is_prepared
from primer.data.shards import ShardDirectory
from primer.errors import DataError, UsageError, nearest
from primer.evals.harness import Answers, run_harness
from primer.evals.likelihood import Progress
from primer.evals.multiple_choice import TaskScore, score_task
from primer.evals.perplexity import score
from primer.evals.tasks import TASKS, Task, is_task, read_task
from primer.recipes.build import rows_to_score
from primer.recipes.config import as_language
from primer.recipes.text import open_data
from primer.tokens import open_tokenizer
from primer.tokens.char import CharTokenizer, UnknownCharacterError
from primer.tokens.tokenizer import END_OF_TEXT, Ids, Tokenizer
from primer.training.distributed import World

if TYPE_CHECKING:
    from primer.recipes.loaded import Run

Unknown = Literal["error", "skip"]


@dataclass(frozen=True)
class Reading:
    """How a text becomes tokens; what is left out is as the run's own text was read."""

    unknown: Unknown = "error"
    encoding: str | None = None
    encoding_errors: Literal["strict", "replace", "ignore"] | None = None
    field: str | None = None


def of_text(
    run: "Run", text: str | Path | None, how: Reading, progress: Progress | None = None
) -> dict[str, float]:
    """See `Run.evaluate`."""
    config = as_language(run.config)
    skipped = 0
    tokens = text is None or is_prepared(text) or is_foreign(text)
    if tokens and replace(how, unknown="error") != Reading():
        raise UsageError(
            "how a text is read says nothing of tokens that are there",
            str(text or config.data.source),
            "leave --encoding, --encoding-errors and --field out",
        )
    if text is None:
        limit = config.train.evaluate_tokens  # what training looked at is what is compared with it
        ids = validation_ids(open_data(config, run.directory, World()), limit)
    elif tokens:
        ids = validation_ids(shards_for(run, text))
    else:
        check_target(text)
        data = config.data
        source = open_source(
            text,
            encoding=how.encoding or data.encoding,
            encoding_errors=how.encoding_errors or data.encoding_errors,
            field=how.field or data.field,
        )
        ids, skipped = read(run.tokenizer, source.documents(), how.unknown)
        if len(ids) < 2:
            raise DataError(
                "there is nothing to predict in this text", str(text), "a text of two tokens or more"
            )
    model, targets = config.model, len(ids) - 1
    rows = rows_to_score(model, next(run.gpt.parameters()).device)
    windows = evaluation_windows(ids, batch_size=rows, context_length=model.context_length)
    lengths = torch.from_numpy(np.asarray(run.tokenizer.byte_lengths, dtype=np.int64))
    tell = progress or (lambda done, total: None)
    with run.precision().autocast():
        found = score(run.gpt, windows, lengths, progress=lambda done: tell(done, targets))
    return asdict(found) | {"skipped": skipped}


def validation_ids(shards: ShardDirectory, limit: int = 0) -> Ids:
    """The tokens of a validation split, or the first targets of it."""
    return np.asarray(shards.tokens("validation")[: limit + 1 if limit else None])


def shards_for(run: "Run", folder: str | Path) -> ShardDirectory:
    """A folder of token shards, or of others' token files, that a run can read. DataError for another vocabulary's.

    Others do not say which tokenizer they used. It is taken for GPT-2's, or for the run's own where its own text was
    such files as well.
    """
    foreign = is_foreign(folder)
    if foreign and is_foreign((run.directory.read_facts()["data"] or {}).get("path", "")):
        theirs = run.tokenizer
    else:
        theirs = open_tokenizer("gpt2") if foreign else ShardDirectory.open(folder).tokenizer
    if theirs.fingerprint != run.tokenizer.fingerprint:
        raise DataError(
            "these tokens are another tokenizer's than the run's" + (": GPT-2's, as others use it" * foreign),
            str(folder),
            "the text that they were made from",
        )
    return open_foreign(folder, theirs, splits=("validation",)) if foreign else ShardDirectory.open(folder)


def of_task(
    run: "Run",
    task: str | Path | Task,
    *,
    limit: int | None = None,
    shots: int = 0,
    seed: int = 0,
    unknown: Unknown = "error",
    progress: Progress | None = None,
) -> TaskScore:
    """See `Run.evaluate_task`."""
    if not isinstance(task, Task):
        if not is_task(task):
            check_target(task)
        task = read_task(task, limit=limit, shots=shots, seed=seed)
    with run.precision().autocast():
        return score_task(
            run.gpt, reading(run.tokenizer, unknown), task, progress=progress or (lambda done, total: None)
        )


def in_harness(
    run: "Run",
    tasks: Sequence[Any],
    *,
    limit: int | None = None,
    shots: int | None = None,
    unknown: Unknown = "error",
) -> dict[str, dict[str, Any]]:
    """See `Run.evaluate_harness`."""
    return run_harness(
        lambda: Answers(run.gpt, reading(run.tokenizer, unknown), run.precision()),
        tasks,
        limit=limit,
        shots=shots,
    )


def check_target(on: str | Path) -> None:
    """Say what a word may be that names neither a text nor a task; DataError, with the nearest name there is."""
    if on in TASKS:
        raise UsageError(f"{on} is a task, not a text", hint=f"--on={on}, or Run.evaluate_task({on!r})")
    if not str(on) or on in NAMED or os.path.lexists(on):  # of an empty one `open_source` speaks
        return
    close = nearest(str(on), [*TASKS, *NAMED])
    hint = f"did you mean {close}?" if close else f"a path, or one of {', '.join([*NAMED, *TASKS])}"
    raise DataError(f"there is no file or folder {str(on)!r}, and no text or task of that name", hint=hint)


def reading(tokenizer: Tokenizer, unknown: Unknown) -> Tokenizer:
    """The tokenizer with a habit for characters that it has never seen; only one of characters has such."""
    return CharTokenizer(tokenizer.characters, unknown) if isinstance(tokenizer, CharTokenizer) else tokenizer


def read(tokenizer: Tokenizer, documents: Iterable[Document], unknown: Unknown) -> tuple[Ids, int]:
    """All ids of a text, as in a text to train on, and how many characters were dropped.

    Before every document stands the end-of-text token; where the tokenizer has none, a blank line stands between two.
    An unknown character is named with its place.
    """
    tokenizer, pieces, skipped = reading(tokenizer, unknown), [np.empty(0, np.int64)], 0
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    for number, (name, text) in enumerate(whole(documents)):
        before = SEPARATOR if number and end is None else ""
        if end is not None:
            pieces.append(np.array([end]))
        try:
            pieces.append(tokenizer.encode(before + text, special="text").astype(np.int64))
        except UnknownCharacterError as error:
            place = UnknownCharacterError(error.character, max(0, error.position - len(before)))
            raise DataError(place.cause, where=name, hint="--unknown=skip") from error
        if isinstance(tokenizer, CharTokenizer):
            skipped += len(before) + len(text) - len(pieces[-1])
    return np.concatenate(pieces), skipped


def whole(documents: Iterable[Document]) -> Iterator[tuple[str, str]]:
    """(id, text) of each document, a long one's pieces put together."""
    name, parts = "", list[str]()
    for document in documents:
        if document.part == 0 and parts:
            yield name, "".join(parts)
            parts = []
        name = document.id
        parts.append(document.text)
    if parts:
        yield name, "".join(parts)
