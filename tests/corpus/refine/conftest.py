from collections.abc import Callable
from pathlib import Path

import pytest

from crawls import archive, records


@pytest.fixture
def crawl(tmp_path: Path) -> Callable[[], list[Path]]:
    """Two archives of a dozen pages each, in a folder."""

    def make() -> list[Path]:
        folder = tmp_path / "crawl"
        return [
            archive(folder / f"{name}.warc.gz", records(first, 5)) for name, first in (("a", 0), ("b", 100))
        ]

    return make
