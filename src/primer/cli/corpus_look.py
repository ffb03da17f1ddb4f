"""`primer corpus report|inspect|explain|diff|plan`: what a corpus holds, what was dropped, and why."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from primer.cli.flags import Verb, parse, required, show_help
from primer.cli.table import table
from primer.corpus.refine.recipe import Recipe, resolve
from primer.errors import DataError, UsageError, nearest


@dataclass(frozen=True)
class ReportOptions:
    """Of the command."""

    count_tokens: bool = True
    """Count the tokens of what was dropped, too, with the corpus' tokenizer."""
    json: bool = False
    """Print the report as one JSON object."""


@dataclass(frozen=True)
class InspectOptions:
    """Of the command."""

    stage: str = ""
    """Only what this stage dropped."""
    reason: str = ""
    """Only what was dropped for this reason. `kept`: what was kept."""
    n: int = 20
    """How many (-n)."""
    characters: int = 600
    """Of each, around the place of the offence. 0: all."""
    json: bool = False
    """One JSON object a line."""


@dataclass(frozen=True)
class ExplainOptions:
    """Of the command."""

    by: str = ""
    """The recipe by whose thresholds, for a file (empty: fineweb); a page of a corpus is explained by its own."""
    corpus: str = "corpus"
    """Where a page is looked for that is named by its address or its id."""
    text: bool = False
    """Show the text that was extracted, too."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class DiffOptions:
    """Of the command."""

    n: int = 5
    """How many documents of each kind to name (-n)."""
    json: bool = False
    """Print one JSON object."""


REPORT = Verb(
    "corpus report",
    "[CORPUS]",
    "What happened to every document, by stage and reason, as a table here and as report.html and report.json in the "
    "corpus' folder.",
    (
        "primer corpus report corpus",
        "primer corpus report corpus --no-count-tokens",
        "primer corpus report corpus --json | jq .totals",
    ),
    ReportOptions,
)
INSPECT = Verb(
    "corpus inspect",
    "[CORPUS]",
    "Documents that were dropped, with the place of the offence marked: the same ones each time, chosen by hash.",
    (
        "primer corpus inspect corpus --stage=fineweb -n 5",
        "primer corpus inspect corpus --reason=char_dup_ratio",
        "primer corpus inspect corpus --reason=kept --characters=0 -n 1",
    ),
    InspectOptions,
)
EXPLAIN = Verb(
    "corpus explain",
    "FILE|URL|ID",
    "Everything that a recipe measures of one page, beside its thresholds: of a file (.html, .txt, .warc.gz), or of a "
    "page that a corpus has seen, by its address. Of a file, thresholds are flags, to try others.",
    (
        "primer corpus explain page.html",
        "primer corpus explain page.html --by=fineweb-fast --fineweb.max-char-dup=0.1",
        "primer corpus explain http://example.org/ --corpus=corpus",
    ),
    ExplainOptions,
    (Recipe,),
)
DIFF = Verb(
    "corpus diff",
    "CORPUS CORPUS",
    "What one corpus kept that another dropped, and why: of the same input by two recipes.",
    (
        "primer corpus diff corpus corpus-fast",
        "primer corpus diff strict loose -n 20",
        "primer corpus diff corpus corpus-fast --json",
    ),
    DiffOptions,
    most=2,
)


def report(argv: Sequence[str]) -> int:
    """Write report.html and report.json, and print the table of stages."""
    arguments = parse(REPORT, argv)
    if arguments.help:
        show_help(REPORT)
        return 0
    out = Path((arguments.values or ["corpus"])[0])

    from primer.recipes.corpus import write_report

    found = write_report(out, count_tokens=arguments.options.count_tokens)
    if arguments.options.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    print(in_lines(found))
    print(f"\n{out / 'report.html'}")
    return 0


def in_lines(found: dict[str, Any]) -> str:
    """The stages and reasons as a table."""
    total = found["totals"]["in"]["documents"]
    rows = [("stage", "reason", "documents", "of all", "words", "tokens")]
    rows.append(
        (
            "in",
            "",
            f"{total:,}",
            "",
            _number(found["totals"]["in"], "words"),
            _number(found["totals"]["in"], "tokens"),
        )
    )
    for stage in found["stages"]:
        for number, reason in enumerate(stage["reasons"]):
            rows.append(
                (
                    stage["title"] if number == 0 else "",
                    reason["reason"],
                    f"{reason['documents']:,}",
                    f"{reason['documents'] / total:.1%}",
                    _number(reason, "words"),
                    _number(reason, "tokens"),
                )
            )
    kept = found["totals"]["kept"]
    share = f"{kept['documents'] / total:.1%}" if total else ""
    rows.append(
        ("kept", "", f"{kept['documents']:,}", share, _number(kept, "words"), _number(kept, "tokens"))
    )
    return table(rows, right={2, 3, 4, 5})


def _number(counts: dict[str, Any], name: str) -> str:
    return "" if counts[name] is None else f"{counts[name]:,}"


def inspect(argv: Sequence[str]) -> int:
    """Print documents."""
    arguments = parse(INSPECT, n_spelt_out(argv))
    if arguments.help:
        show_help(INSPECT)
        return 0
    out, options = Path((arguments.values or ["corpus"])[0]), arguments.options

    from primer.corpus.refine.explain import offending

    chosen: list[tuple[bytes, dict[str, Any]]] = []
    seen: set[str] = set()
    for row in _rows(out, options):
        seen.add(row["reason"])
        if options.reason and row["reason"] != options.reason:
            continue
        chosen.append((blake2b(row["id"].encode(), digest_size=8).digest(), row))
        if len(chosen) > 4 * options.n:
            chosen = sorted(chosen, key=lambda each: each[0])[: options.n]
    if not chosen:
        close = nearest(options.reason, sorted(seen)) if options.reason else None
        raise DataError(
            "nothing was dropped so" if seen else "nothing is here",
            str(out),
            f"--reason={close}" if close else None,
        )
    for _, row in sorted(chosen, key=lambda each: each[0])[: options.n]:
        where = offending(row) if row["reason"] != "kept" else []
        if options.json:
            print(json.dumps({**row, "spans": where}, ensure_ascii=False))
        else:
            print(_shown(row, list(where), options.characters), end="\n\n")
    return 0


def _rows(out: Path, options: InspectOptions) -> Iterator[dict[str, Any]]:
    from primer.corpus.refine.kept import Corpus
    from primer.corpus.refine.select import STAGES
    from primer.corpus.refine.store import stored

    plan = Corpus.open(out).plan
    if options.stage and options.stage not in STAGES:
        close = nearest(options.stage, list(STAGES))
        raise UsageError(
            f"there is no stage {options.stage!r}", hint=f"--stage={close}" if close else ", ".join(STAGES)
        )
    kept = options.reason == "kept"
    folders = ["kept"] if kept else [f"dropped/{stage}" for stage in STAGES if options.stage in ("", stage)]
    for folder in folders:
        for unit in plan.units:
            for found in stored(out / folder / f"{unit.name}.parquet"):
                yield from (
                    {"stage": "", "reason": "kept"} | row if kept else row for row in found.to_pylist()
                )


def _shown(row: dict[str, Any], where: list[tuple[int, int]], characters: int) -> str:
    """A document, with what offends marked: in colour on a terminal, between ⟦ and ⟧ elsewhere."""
    value = f" = {row['value']:.4g}" if row.get("value") is not None else ""
    head = f"{row['url'] or row['id']}\n{row['id']}  {row['stage']} {row['reason']}{value}"
    text = row["text"] or ""
    start = max(where[0][0] - characters // 4, 0) if where and characters else 0
    stop = start + characters if characters else len(text)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    before, after = ("\x1b[7m", "\x1b[0m") if colour else ("⟦", "⟧")
    parts, place = [], start
    for left, right in where:
        left, right = max(left, place), min(right, stop)
        if left < right:
            parts += [text[place:left], before, text[left:right], after]
            place = right
    parts.append(text[place:stop])
    body = "".join(parts)
    cut = ("… " if start else "") + body + (" …" if stop < len(text) else "")
    return f"{head}\n{cut}"


def explain(argv: Sequence[str]) -> int:
    """Print what is measured of a page."""
    arguments = parse(EXPLAIN, argv)
    if arguments.help:
        show_help(EXPLAIN, resolve("fineweb").config)
        return 0
    what, options = required(arguments, EXPLAIN, "a file, an address or an id"), arguments.options

    from primer.corpus.refine.explain import in_corpus, of_file
    from primer.corpus.refine.plan import open_plan

    corpus = Path(options.corpus)
    if os.path.isfile(what):
        found = of_file(Path(what), resolve(options.by or "fineweb", arguments.flags).config)
    elif not corpus.exists():
        raise DataError(
            f"neither is there a file {what!r}, nor a corpus that could have seen it",
            str(corpus),
            "--corpus=FOLDER",
        )
    elif options.by or arguments.flags:
        raise UsageError(
            "a page of a corpus is explained by the corpus' own recipe",
            str(corpus),
            "without --by and thresholds",
        )
    else:
        found = in_corpus(open_plan(corpus), what)
    if options.json:
        print(json.dumps(found.plain(), ensure_ascii=False))
        return 0
    print(f"{found.url or found.id}")
    spoken = ", ".join(f"{name} {score:.2f}" for name, score in found.languages[:3])
    print(
        f"{len(found.text):,} characters of text{f', decoded as {found.charset}' if found.charset else ''}; {spoken}"
    )
    rows = [("stage", "", "is", "", "limit", "")]
    for line in found.lines:
        rows.append(
            (
                line.stage,
                line.title,
                f"{line.value:.4g}",
                "≤" if line.above else "≥",
                f"{line.threshold:.4g}",
                "dropped" if line.dropped else "",
            )
        )
    if found.lines:
        print(table(rows, right={2, 4}, cut=1))
    if found.lost:
        print(f"C4 drops lines of {found.lost:,} characters; FineWeb's rules see the rest.")
    print(f"→ {found.why}" + (f" ({found.reason})" if found.reason else ""))
    if options.text:
        print(f"\n{found.text}")
    return 0


def diff(argv: Sequence[str]) -> int:
    """Print what two corpora kept."""
    arguments = parse(DIFF, n_spelt_out(argv))
    if arguments.help:
        show_help(DIFF)
        return 0
    if len(arguments.values) != 2:
        raise UsageError("primer corpus diff needs two corpora", hint=DIFF.examples[0])

    from primer.corpus.refine.compared import compared

    one, other = map(Path, arguments.values)
    found = compared(one, other, arguments.options.n)
    if arguments.options.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    print(
        f"{found['both']:,} kept by both, {found['only_one']:,} by {one} alone, {found['only_other']:,} by {other} "
        f"alone: {found['overlap']:.1%} of what either kept"
    )
    rows = [("dropped by", "stage", "reason", "documents", "for example")]
    for each in found["reasons"]:
        rows.append(
            (each["by"], each["stage"], each["reason"], f"{each['documents']:,}", each["examples"][0])
        )
    if len(rows) > 1:
        print(table(rows, right={3}, cut=4))
    return 0


def n_spelt_out(argv: Sequence[str]) -> list[str]:
    """`-n 5` as `--n=5`."""
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        words.append(f"--n={next(rest, '')}" if word == "-n" else word)
    return words
