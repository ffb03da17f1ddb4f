"""`primer translate`: a sentence, a file of sentences, or what comes through a pipe, a line each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from primer.cli.flags import Verb, parse, required, show_help
from primer.cli.stdin import from_stdin
from primer.errors import DataError, UsageError
from primer.recipes.report import visible

if TYPE_CHECKING:
    from primer.recipes.loaded import Run
    from primer.recipes.translating import Translated
    from primer.tokens.tokenizer import Ids

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
    long: Literal["error", "keep"] = "error"
    """A sentence that is longer than the model reads: stop and name it, or leave the translation's line empty and say
    how many there were. Nothing is ever cut."""
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

    from primer.assets import require_free
    from primer.recipes.config import as_translation
    from primer.recipes.run import load

    if options.out is not None:
        require_free(Path(options.out), "another name")
    model = load(which, runs_dir=options.runs_dir, checkpoint=options.checkpoint)
    as_translation(model.config)
    if options.attention is not None:
        return draw(model, sentence, options)
    sentences = given(sentence, options)
    translations = lines(model, sentences, encoded(model, sentences, options), options)
    if options.out is not None:
        save(translations, Path(options.out))
        return 0
    show = visible if sys.stdout.isatty() else str
    for line in translations:
        print(show(line), flush=True)
    return 0


def save(translations: Iterator[str], out: Path) -> None:
    """All lines into a file when the last one is there; after Ctrl-C, those so far into one beside it."""
    done: list[str] = []
    try:
        for line in translations:
            done.append(line)
    except KeyboardInterrupt:
        part = out.with_name(f"{out.name}.part")
        write(done, part)
        print(f"the first {len(done):,} lines are in {part}", file=sys.stderr)
        raise
    write(done, out)


def write(translations: Sequence[str], out: Path) -> None:
    """Lines into a file that is whole or absent."""
    from primer.assets import replacing

    with replacing(out) as file:
        for line in translations:
            file.write(line.encode("utf-8", "surrogateescape") + b"\n")


def draw(model: Run, sentence: str | None, options: Options) -> int:
    """The translation of one sentence, and a picture of the attention."""
    from primer.cli.plots import attention, require

    alone = sentence is not None and options.out is None
    if not alone or len(sentences := given(sentence, options)) != 1:
        raise UsageError(
            "--attention is for one sentence",
            hint=f'primer translate RUN "…" --attention={options.attention}',
        )
    require(str(options.attention), "--attention")
    found = model.look(
        sentences[0], beam=options.beam, length_penalty=options.length_penalty, use_cache=options.cache
    )
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
    where, content = (
        options.file or "stdin",
        read_file(options.file) if options.file else from_stdin("sentences"),
    )
    if content is None:
        raise UsageError("there is nothing to translate", hint=VERB.examples[0])
    if not content:
        raise DataError("there is nothing to translate: not one line", where, VERB.examples[0])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"byte {error.start} is not UTF-8", where, "save it as UTF-8 (iconv -t utf-8)"
        ) from error
    found = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return found if found[-1] else found[:-1]


def read_file(name: str) -> bytes:
    """All of a file."""
    from primer.assets import reading
    from primer.corpus.readers import require_regular

    path = Path(name)
    require_regular(path)
    with reading(path) as file:
        return file.read()


def encoded(model: Run, sentences: Sequence[str], options: Options) -> list[Ids | None]:
    """Each sentence as the encoder reads it; None for one whose line is to stay empty.

    All are looked at before the first is translated: what is wrong with the last line is said at once.
    """
    from primer.recipes.translating import SentenceTooLongError, read

    where, longest = options.file or "stdin", model.config.model.context_length
    found: list[Ids | None] = []
    too_long = 0
    for number, sentence in enumerate(sentences, start=1):
        place = f"{where}, line {number}" if options.file or len(sentences) > 1 else ""
        if not sentence.strip():
            if options.empty == "error":
                raise DataError(
                    "there is nothing to translate: the sentence is empty", place or None, "--empty=keep"
                )
            found.append(None)
            continue
        try:
            found.append(read(sentence, model.tokenizer, longest, place))
        except SentenceTooLongError as error:
            if options.long == "error":
                error.hint = f"{error.hint}; or --long=keep" if place else error.hint
                raise
            found.append(None)
            too_long += 1
    if too_long:
        which = f"{too_long:,} of {len(sentences):,} sentences"
        print(f"{which} have more than {longest} tokens: their lines stay empty", file=sys.stderr)
    return found


def lines(model: Run, sentences: Sequence[str], ids: Sequence[Ids | None], options: Options) -> Iterator[str]:
    """A line for every sentence, in their order."""
    from primer.cli.scores import Ticker
    from primer.recipes.config import as_translation
    from primer.recipes.translating import search, searching

    how = searching(as_translation(model.config), options.beam, options.length_penalty)
    cut = 0
    with Ticker("translating", "sentences") as ticker:
        for first in range(0, len(sentences), AT_ONCE):
            chunk = ids[first : first + AT_ONCE]
            real = [each for each in chunk if each is not None]
            found = iter(search(model, real, how, use_cache=options.cache) if real else [])
            for sentence, each in zip(sentences[first:], chunk, strict=False):
                translated = None if each is None else next(found)
                cut += translated is not None and not translated.ended
                yield line_of(sentence, translated, options)
            ticker(min(first + AT_ONCE, len(sentences)), len(sentences))
    if cut:
        which = f"{cut:,} of the translations were" if len(sentences) > 1 else "the translation was"
        print(f"{which} cut: the model had not ended at the limit (translate.extra_length)", file=sys.stderr)


def line_of(sentence: str, found: Translated | None, options: Options) -> str:
    """A translation, or nothing; with --json what is known of it."""
    if not options.json:
        return " ".join(found.text.splitlines()) if found else ""
    nothing: dict[str, Any] = {"text": "", "log_p": None, "score": None, "ids": [], "ended": None}
    answer = asdict(found) if found else nothing
    return json.dumps({"source": sentence, **answer}, ensure_ascii=False)
