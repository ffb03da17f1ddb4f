"""Addresses: the decisions and reasons of datatrove's URLFilter, from lists of any size."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.corpus.crawl import urls
from primer.errors import DataError

pytest.importorskip("tldextract", reason="addresses are read by tldextract, of the extra [corpus]")

DOMAINS = ["bad.org", "worse.co.uk", "sub.host.org", "# a remark"]
URLS = ["http://fine.org/one-bad-page"]
BANNED, SUBWORDS, SOFT = ["casino"], ["xyzzy-bad"], ["free", "cheap", "win"]

PARTS = [
    "bad",
    "worse",
    "www",
    "sub",
    "host",
    "fine",
    "casino",
    "xyzzybad",
    "free",
    "cheap",
    "win",
    "co",
    "uk",
]
ADDRESSES = st.builds(
    lambda scheme, host, path, joint: f"{scheme}{'.'.join(host)}/{joint.join(path)}",
    st.sampled_from(["http://", "https://", "", "//"]),
    st.lists(st.sampled_from([*PARTS, "org", "co.uk"]), min_size=1, max_size=4),
    st.lists(st.sampled_from([*PARTS, "one-bad-page", "Casino", "XYZZY-bad"]), max_size=4),
    st.sampled_from(["/", "-", "", "?q="]),
)


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lists")
    for name, lines in (
        ("domains", DOMAINS),
        ("urls", URLS),
        ("banned_words.txt", BANNED),
        ("banned_subwords.txt", SUBWORDS),
        ("soft_banned_words.txt", SOFT),
    ):
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def theirs() -> Any:
    filters = pytest.importorskip("datatrove.pipeline.filters", reason="datatrove is of the extra [cluster]")
    found = filters.URLFilter(
        extra_domains=DOMAINS,
        extra_urls=URLS,
        banned_words=BANNED,
        banned_subwords=SUBWORDS,
        soft_banned_words=SOFT,
        use_integrated_lists=False,
    )
    found.tldextractor = urls._extract()  # its own would ask the network for a newer list
    return found


@given(ADDRESSES)
@settings(max_examples=400)
@pytest.mark.filterwarnings(
    "ignore:The 'registered_domain' property:DeprecationWarning"
)  # datatrove's use of it
def test_the_reasons_are_datatroves(lists: Path, theirs: Any, address: str) -> None:
    from datatrove.data import Document

    verdict = theirs.filter(Document(text="", id="", metadata={"url": address}))
    assert urls.open_lists(str(lists)).reason(address) == (None if verdict is True else verdict[1])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://bad.org/", "domain"),
        ("http://deep.below.worse.co.uk/x", "domain"),
        ("http://sub.host.org/", "subdomain"),
        ("http://other.host.org/", None),
        ("http://fine.org/one-bad-page", "url"),
        ("http://fine.org/casino", "hard_blacklisted"),
        ("http://fine.org/free-cheap", "soft_blacklisted"),
        ("http://fine.org/free", None),
        ("http://fine.org/axyzzy_badx", "blacklisted_subword"),
        ("http://[", None),
    ],
)
def test_each_list(lists: Path, address: str, reason: str | None) -> None:
    assert urls.open_lists(str(lists)).reason(address) == reason


def test_packed_lists_are_read_once_and_mapped(tmp_path: Path) -> None:
    names = [f"domain-{number}.org" for number in range(500)]
    (tmp_path / "domains").write_text("\n".join(names))
    with tarfile.open(tmp_path / urls.TARBALL, "w:gz") as packed:
        packed.add(tmp_path / "domains", "domains")
    (tmp_path / "domains").unlink()
    found = urls.open_lists(str(tmp_path))
    assert len(found.domains) == 500
    assert all(found.reason(f"http://www.{name}/") == "domain" for name in names)
    assert found.reason("http://domain-500.org/") is None
    assert type(urls.open_lists(str(tmp_path)).domains).__name__ == "memmap"


def test_other_lists_have_another_fingerprint(lists: Path, tmp_path: Path) -> None:
    (tmp_path / "domains").write_text("bad.org\n")
    assert urls.fingerprint(str(lists)) != urls.fingerprint(str(tmp_path))


def test_a_folder_without_lists_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no list of addresses"):
        urls.open_lists(str(tmp_path))
