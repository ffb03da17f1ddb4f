"""`primer translate`: a sentence, a file of sentences, or what comes through a pipe, a line each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from primer.cli.flags import Verb, parse, required, show_help
from primer.errors import DataError, UsageError
from primer.recipes.report import visible

if TYPE_CHECKING:
    from primer.recipes.loaded import Run
    from primer.recipes.translating import Translated

AT_ONCE = 256
"""Sentences of a file that are translated together."""


@dataclass(frozen=True)
class Options:
    """What is left out is as the run's own [translate] says."""

    file: str | None = None
    """A file of sentences, one a line; the translations come in the same order."""
    out: str | None = None
    """Write the translations into this file, which must not exist yet."""
    beam: int | None = None
    """Hypotheses that are followed at once; 1 is greedy."""
    length_penalty: float | None = None
    """α of Wu et al. 2016, eq. 14: 0 prefers short translations, 1 long ones."""
    checkpoint: Literal["average", "latest", "best"] = "average"
    """Which weights: the mean of the newest checkpoints, the newest, or those with the lowest validation loss."""
    cache: bool = True
    """Keep keys and values; --no-cache computes every position again for each token, the slow truth behind it."""
    empty: Literal["error", "keep"] = "error"
    """An empty line: stop and name it, or leave the translation's line empty, too."""
    attention: str | None = None
    """Of one sentence: draw where the decoder looked in it, as .png or .svg (extra [plots])."""
    json: bool = False
    """Print a JSON object a line: source, translation, its log probability and score."""
    runs_dir: str = "runs"
    """Where runs are kept."""


VERB = Verb(
    name="translate",
    takes="RUN [SENTENCE]",
    about="Translate a sentence, or a file of them, with a run that was trained on pairs (primer train dates, "
    "multi30k, or a recipe of your own). Sentences may also come through a pipe, one a line. RUN is a path, the "
    "beginning of an id, or latest.",
    examples=(
        'primer translate latest "the third of March, nineteen ninety-nine"',
        "primer translate latest --file=test.en --out=test.de",
        "cat test.en | primer translate 3fa9c1 --beam=8 --json",
    ),
    options=Options,
    most=2,
    further="--file={}",
)


def run(argv: Sequence[str]) -> int:
    """Write translations on stdout, or into a file."""
    arguments = parse(VERB, argv)
    if arguments.help:
        show_help(VERB)
        return 0
    which = required(arguments, VERB, "a run")
    options = arguments.options
    sentence = arguments.values[1] if len(arguments.values) > 1 else None
    if sentence is not None and options.file is not None:
        raise UsageError("a sentence and --file exclude each other", hint="one after the other")

    from primer.recipes.config import as_translation
    from primer.recipes.run import load

    model = load(which, runs_dir=options.runs_dir, checkpoint=options.checkpoint)
    as_translation(model.config)
    if options.attention is not None:
        return draw(model, sentence, options)
    if options.out is not None:
        from primer.assets import replacing, require_free

        require_free(Path(options.out))
        with replacing(Path(options.out)) as file:
            for line in lines(model, given(sentence, options), options):
                file.write(line.encode("utf-8", "surrogateescape") + b"\n")
        return 0
    show = visible if sys.stdout.isatty() else str
    for line in lines(model, given(sentence, options), options):
        print(show(line), flush=True)
    return 0


def draw(model: Run, sentence: str | None, options: Options) -> int:
    """The translation of one sentence, and a picture of the attention."""
    from primer.cli.plots import attention, require

    if sentence is None or options.out is not None:
        raise UsageError(
            "--attention is for one sentence",
            hint=f'primer translate RUN "…" --attention={options.attention}',
        )
    require(str(options.attention), "--attention")
    found = model.look(sentence, beam=options.beam, length_penalty=options.length_penalty)
    path = attention(found, str(options.attention))
    if options.json:
        values = {"source": found.source, "target": found.target, "pattern": found.pattern.tolist()}
        print(json.dumps(values, ensure_ascii=False))
    else:
        print(visible(found.text) if sys.stdout.isatty() else found.text)
    print(f"the attention is in {path}", file=sys.stderr)
    return 0


def given(sentence: str | None, options: Options) -> list[str]:
    """The sentences that were asked for: the argument, the lines of a file, or those of stdin."""
    if sentence is not None and sentence != "-":
        return [sentence]
    from primer.cli.sample import piped

    if options.file is None:
        text = piped()
        if text is None:
            raise UsageError("there is nothing to translate", hint=VERB.examples[0])
    else:
        from primer.assets import reading
        from primer.corpus.readers import require_regular

        path = Path(options.file)
        require_regular(path)
        with reading(path) as file:
            content = file.read()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"byte {error.start} is not UTF-8", str(path), "save the file as UTF-8"
            ) from error
    found = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return found[:-1] if found[-1] == "" and len(found) > 1 else found


def lines(model: Run, sentences: Sequence[str], options: Options) -> Iterator[str]:
    """A line for every sentence, in their order."""
    from primer.cli.scores import Ticker

    where = options.file or "stdin"
    for number, sentence in enumerate(sentences, start=1):
        if not sentence.strip() and options.empty == "error":
            place = f"{where}, line {number}" if len(sentences) > 1 else None
            raise DataError("there is nothing to translate: the sentence is empty", place, "--empty=keep")
    with Ticker("translating", "sentences") as ticker:
        for first in range(0, len(sentences), AT_ONCE):
            chunk = sentences[first : first + AT_ONCE]
            real = [sentence for sentence in chunk if sentence.strip()]
            try:
                found = iter(translated(model, real, options) if real else [])
            except DataError as error:
                raise _with_line(error, first, where, len(sentences)) from error
            for sentence in chunk:
                each = next(found) if sentence.strip() else None
                yield _line(sentence, each, options)
            ticker(min(first + AT_ONCE, len(sentences)), len(sentences))


def translated(model: Run, sentences: Sequence[str], options: Options) -> list[Translated]:
    """The translations of sentences that are not empty."""
    from primer.recipes.translating import translate

    return translate(
        model, sentences, beam=options.beam, length_penalty=options.length_penalty, use_cache=options.cache
    )


def _line(sentence: str, found: Translated | None, options: Options) -> str:
    if not options.json:
        return " ".join(found.text.splitlines()) if found else ""
    answer = asdict(found) if found else {"text": "", "log_p": 0.0, "score": 0.0}
    return json.dumps({"source": sentence, **answer}, ensure_ascii=False)


def _with_line(error: DataError, first: int, where: str, count: int) -> DataError:
    """The error of the n-th sentence of a chunk, with its line."""
    if count > 1 and error.where and error.where.startswith("sentence "):
        error.where = f"{where}, line {first + int(error.where.removeprefix('sentence '))}"
    return error
