"""Which filter is worth what: the same crawl by recipes that differ in one stage, and a small GPT trained on each.

As FineWeb decided on its own filters (Penedo et al. 2024, arXiv:2406.17557, sections 3.2 to 3.6): equal numbers of
tokens from every corpus, equal trainings, a score on text of another source. There 1.8 B parameters and 28 B tokens
with two seeds, here what a laptop can do with five; on a small crawl it shows how one asks, and not yet an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primer.assets import cache_dir, data_dir, replacing, sha256_of_lines
from primer.config import spelt, to_dict
from primer.corpus.refine.plan import Plan, adopt
from primer.corpus.refine.plan import make as make_plan
from primer.corpus.refine.recipe import Recipe, resolve
from primer.corpus.refine.tools import Tools
from primer.corpus.sources import open_source
from primer.errors import SurroundingsError, UsageError
from primer.experiments.experiment import Experiment, Measure, Variant

if TYPE_CHECKING:
    from primer.data.shards import ShardDirectory
    from primer.evals.likelihood import Progress
    from primer.recipes.loaded import Run

NAME = "filters"
QUESTION = "What is each of FineWeb's filters worth to a small GPT, at equally many tokens?"
CRAWL = "warc/debian-docs-a.warc.gz"
OTHER_SOURCE = "eval/lambada_openai.jsonl"
"""Passages from novels, of which nothing is in a crawl of manuals."""

VOCABULARY = 2048
HELD_OUT_FILE = "held-out.txt"
HELD_OUT = 200_000
"""Characters of the other source."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    """A recipe that differs from the base's in one thing."""

    name: str
    flags: Mapping[str, Any]


ARMS = (
    Arm("no-repetition", {"repetition.on": False}),
    Arm("no-quality", {"quality.on": False}),
    Arm("no-c4", {"c4.on": False}),
    Arm("no-fineweb", {"fineweb.on": False}),
    Arm("no-dedup", {"dedup.exact": False, "dedup.minhash": False}),
    Arm("no-filters", {f"{stage}.on": False for stage in ("repetition", "quality", "c4", "fineweb")}),
    Arm("trafilatura", {"extract.extractor": "trafilatura"}),
)
"""The extractor is no filter, but decides as much: with another one other lines stand in a page, and other rules
drop it."""


@dataclass(frozen=True)
class Ablation:
    """A base recipe, arms, a crawl, and where their corpora are kept."""

    recipe: str
    inputs: tuple[str, ...]
    arms: tuple[Arm, ...] = ARMS
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Of all recipes, the base's too."""
    held_out: str = ""
    """Text of another source. Empty: that of $PRIMER_DATA, else what Python carries."""
    folder: Path | None = None
    """None: in the cache."""

    @property
    def base(self) -> str:
        """What the base is called: its recipe, without the folder and the ending of a file."""
        return Path(self.recipe).stem if self.recipe.endswith(".toml") else self.recipe

    def recipes(self) -> dict[str, Recipe]:
        """The base's and each arm's, by name."""
        names = [self.base, *(arm.name for arm in self.arms)]
        for name in names[1:]:
            if names.count(name) > 1 or not re.fullmatch(r"[\w-][\w.,=+ -]*", name) or name == HELD_OUT_FILE:
                raise UsageError(
                    f"an arm cannot be called {name!r}", hint="a name of its own: letters, digits, hyphens"
                )
        every = {self.base: {}, **{arm.name: dict(arm.flags) for arm in self.arms}}
        return {name: resolve(self.recipe, {**self.flags, **flags}).config for name, flags in every.items()}

    def place(self) -> Path:
        """Where everything is made: in the cache, apart for other inputs, recipes, tools of theirs, and texts."""
        if self.folder:
            return self.folder
        what = [str(Path(each).absolute()) for each in self.inputs]
        recipes = self.recipes().values()
        made = [json.dumps(to_dict(recipe), sort_keys=True) + Tools(recipe).key for recipe in recipes]
        return cache_dir() / "ablations" / sha256_of_lines([*what, *made, self.other_source()])[:16]

    def source(self, name: str) -> Path:
        """The shards of an arm, all with equally many tokens to train on."""
        return self.place() / name / "equal"

    def experiment(self, training: Mapping[str, Any], seeds: int = 5) -> Experiment:
        """The trainings that compare the arms. `prepare` makes the corpora, if they are not there."""
        held_out = self.place() / HELD_OUT_FILE
        measure = Measure(
            "bits_per_byte",
            f"bits a byte of {self.other_source()}, which none of the corpora has",
            lambda run, progress: _bits(run, held_out, progress),
            digits=4,
            finer=4,
        )
        return Experiment(
            name=NAME,
            question=QUESTION,
            recipe="tiny",
            measures=(measure,),
            base=Variant(self.base, {}),
            flags={"data.source": str(self.source(self.base)), **training},
            variants=tuple(
                Variant(arm.name, {"data.source": str(self.source(arm.name))}) for arm in self.arms
            ),
            seeds=seeds,
            prepare=self.prepare,
            asked=("data.source",),
        )

    def other_source(self) -> str:
        """The name of what they are scored on."""
        if self.held_out:
            return self.held_out
        folder = data_dir()
        there = folder and (folder / OTHER_SOURCE).is_file()
        return str(folder / OTHER_SOURCE) if folder and there else "python-docs"

    def prepare(self, say: Say) -> None:
        """Refine the crawl by every recipe, and write shards of equally many tokens with one tokenizer."""
        from primer.corpus.refine.kept import Corpus
        from primer.corpus.refine.run import run
        from primer.data.prepare_corpus import Settings, prepare_corpus
        from primer.data.shards import TOKENIZER
        from primer.device import cores

        folder = self.place()
        if not self.inputs:
            raise SurroundingsError(
                "there is no crawl to filter",
                "PRIMER_DATA",
                "primer corpus ablate fineweb-fast crawl.warc.gz",
            )
        plans: dict[str, Plan] = {}
        for name, recipe in self.recipes().items():
            say(f"{name}: refining")
            plan = make_plan(recipe, self.inputs, folder / name, lambda *_: None)
            for other in plans.values():
                adopt(plan, other)
            run(plan, cores())
            plans[name] = plan
        fraction = plans[self.base].recipe.tokens.validation_fraction
        whole: dict[str, ShardDirectory] = {}
        tokenizer = "train"
        for name in plans:
            settings = Settings(tokenizer, VOCABULARY, fraction)
            whole[name] = prepare_corpus(Corpus.open(folder / name), folder / name / "shards", settings)
            tokenizer = str(folder / self.base / "shards" / TOKENIZER)
        least = min(each.counts["train"]["tokens"] for each in whole.values())
        for name, shards in whole.items():
            say(f"{name}: {shards.counts['train']['tokens']:,} tokens, {least:,} taken")
            equal = Settings(tokenizer, VOCABULARY, fraction, least)
            prepare_corpus(Corpus.open(folder / name), self.source(name), equal)
        self._write_held_out(folder / HELD_OUT_FILE)

    def _write_held_out(self, path: Path) -> None:
        """The beginning of the other source, in the documents' order. UsageError where runs were scored on another."""
        text, held = [], 0
        source = self.other_source()
        field = "context" if source.endswith(OTHER_SOURCE) else "text"
        for document in open_source(source, field=field).documents():
            text.append(document.text[: HELD_OUT - held])
            held += len(text[-1])
            if held >= HELD_OUT:
                break
        data = "\n\n".join(text).encode()
        if path.is_file() and path.read_bytes() != data:
            raise UsageError("models here are scored on another text", str(path), "another folder (--out)")
        with replacing(path) as file:
            file.write(data)


def _bits(run: Run, held_out: Path, progress: Progress) -> float:
    return float(run.evaluate(held_out, unknown="skip", progress=progress)["bits_per_byte"])


def experiment(flags: Mapping[str, Any]) -> Experiment:
    """The experiment on the crawl that `data.source` names, else on the sample in $PRIMER_DATA."""
    flags = dict(spelt(flags))
    crawl = flags.get("data.source") or _sample()
    return Ablation("fineweb-fast", (str(crawl),) if crawl else ()).experiment({})


def _sample() -> Path | None:
    folder = data_dir()
    return folder / CRAWL if folder and (folder / CRAWL).is_file() else None


def parsed(words: Sequence[str]) -> tuple[Arm, ...]:
    """Arms as they are typed: "no-c4: c4.on=false", settings with blanks between them. UsageError for anything else."""
    found = []
    for word in words:
        name, colon, settings = word.partition(":")
        pairs = [each.partition("=") for each in settings.split()]
        if not colon or not name.strip() or not pairs or not all(equals for _, equals, _ in pairs):
            raise UsageError(f"not an arm: {word!r}", hint='--arm="no-c4: c4.on=false"')
        found.append(Arm(name.strip(), {key: _value(value) for key, _, value in pairs}))
    return tuple(found)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
