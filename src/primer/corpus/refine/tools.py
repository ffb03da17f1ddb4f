"""What the stages work with: lists, models, extractors, opened once a process; and what identifies each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from primer.assets import cache_dir, sha256_of, sha256_of_lines
from primer.corpus.crawl import extract, urls
from primer.corpus.refine.recipe import Recipe, measured_by
from primer.corpus.text.classifier import Classifier
from primer.corpus.text.contamination import Index
from primer.corpus.text.language import LanguageModel
from primer.errors import DataError, UsageError


@dataclass(frozen=True)
class Tools:
    """Everything that measuring a page needs, for one recipe. Each is opened when it is first used."""

    recipe: Recipe

    @cached_property
    def key(self) -> str:
        """What decides every measurement, as a hash: settings, and the content or version of whatever is used."""
        return sha256_of_lines([json.dumps(measured_by(self.recipe), sort_keys=True), *self.versions()])

    def open(self) -> None:
        """Open what a recipe names by a path, so that what is missing is said before anything is done."""
        _ = self.url_filter, self.classifier, self.evaluations

    def versions(self) -> list[str]:
        """Of each tool in use, its version or the hash of its content."""
        recipe = self.recipe
        found = [f"language {sha256_of(self.language.path)}"]
        if recipe.extract.extractor != "none":
            found.append(extract.version_of(recipe.extract.extractor))
        if recipe.urls.lists:
            found.append(f"urls {urls.fingerprint(recipe.urls.lists)}")
        if recipe.classifier.model:
            found.append(f"classifier {sha256_of(Path(recipe.classifier.model))}")
        found += [f"evaluation {sha256_of(Path(file))}" for file in recipe.decontaminate.files]
        return found

    def described(self) -> dict[str, str]:
        """The same for people: who reads a report sees what made it."""
        extractor = self.recipe.extract.extractor
        others = {}
        if self.recipe.classifier.model:
            others["classifier"] = f"{self.recipe.classifier.model}, label {self.recipe.classifier.label}"
        if self.evaluations:
            others["evaluations"] = f"{self.evaluations.items:,} items of {', '.join(self.evaluations.files)}"
        return {
            "primer": version("gpt-primer"),
            "extractor": extract.version_of(extractor) if extractor != "none" else "none: the input is text",
            "language model": f"{self.recipe.language.model}, SHA-256 {sha256_of(self.language.path)[:16]}…",
            **others,
        }

    @cached_property
    def url_filter(self) -> urls.UrlFilter | None:
        """None: no address is dropped."""
        lists = self.recipe.urls.lists
        return urls.open_lists(lists, self.recipe.urls.soft_words) if lists else None

    @cached_property
    def extract(self) -> Callable[[str], str]:
        """From HTML to text."""
        settings = self.recipe.extract
        assert settings.extractor != "none", "texts are not extracted"
        return extract.extractor(settings.extractor, favor_precision=settings.favor_precision)

    @cached_property
    def language(self) -> LanguageModel:
        """Labels with probabilities."""
        return LanguageModel(self.recipe.language.model, self.recipe.language.characters)

    @cached_property
    def classifier(self) -> Classifier | None:
        """None: nobody is asked."""
        model = self.recipe.classifier.model
        return Classifier.open(Path(model)) if model else None

    @cached_property
    def evaluations(self) -> Index | None:
        """What is looked for. It is indexed once, into the cache, and shared by all processes. None: nothing is."""
        settings = self.recipe.decontaminate
        if not settings.files:
            return None
        files = [Path(file) for file in settings.files]
        key = sha256_of_lines([str(settings.n), *(f"{sha256_of(file)}  {file.name}" for file in files)])
        path = cache_dir() / "evaluations" / f"{key[:16]}.index"
        with suppress(DataError):
            return Index.open(path)
        shutil.rmtree(path, ignore_errors=True)  # there is none, or it is damaged
        with suppress(UsageError):  # another process was faster
            Index.build(files, settings.n).save(path)
        return Index.open(path)

    @cached_property
    def measurer(self) -> Any:
        """All statistics of a text."""
        from primer.corpus.text.measure import measurer
        from primer.corpus.text.statistics import LineRules
        from primer.corpus.text.words import split_chunk

        return measurer(split_chunk, LineRules(drop=self.recipe.c4.on))
