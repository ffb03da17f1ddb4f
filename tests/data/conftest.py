import pytest
from hypothesis import settings

# The same examples every time, none of them timed; fewer than usual, because each opens or writes files.
settings.register_profile("files", settings.get_profile("ci"), max_examples=40)
settings.load_profile("files")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of its own for every test, and no data but what the test lays out."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "primer"
