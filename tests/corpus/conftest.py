import pytest
from hypothesis import settings

settings.load_profile("ci")  # the same examples every time, and none of them timed


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of its own for every test, and no data but what the test lays out."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "primer"
