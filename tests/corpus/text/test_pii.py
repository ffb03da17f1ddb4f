"""Addresses of people and machines: found where datatrove finds them, replaced by what is nobody's."""

from __future__ import annotations

import ipaddress
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.corpus.text import pii
from primer.corpus.text.pii import EMAILS, IPS, Replacer

PIECES = (
    "a|b.c|@|example.com|x@y|x@y.org|8.8.8.8|10.0.0.1|192.168.1.1|256.1.1.1|1.2.3|999.8.8.8.8|.| |\n|mail:|<|>|-|"
    "[1.2.3.4]|user@[1.2.3.4]|ä@ö.de|010.1.1.1"
)
TEXTS = st.lists(st.sampled_from(PIECES.split("|")), max_size=12).map("".join)

ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
BYTE = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
EMAIL = re.compile(
    rf"\b{ATOM}(?:\.{ATOM})*@"
    rf"(?:(?:{LABEL}\.)+{LABEL}|\[(?:{BYTE}\.){{3}}(?:{BYTE}|[A-Za-z0-9-]*[A-Za-z0-9]:)])"
)
"""datatrove's pattern for an address, which takes time by the square of a text's length."""
BRITTLE = st.lists(st.sampled_from([*"aZ0_é@.+-![]: ", "a.b", "@b.org", "x@y.z", "..", "[1.2.3.4]"]))


@given(st.one_of(TEXTS, BRITTLE.map("".join)), BRITTLE.map("".join), st.integers(0, 20))
@settings(max_examples=500, deadline=None)
def test_mail_is_found_where_one_pattern_finds_it(text: str, part: str, times: int) -> None:
    for each in (text, text + part * times, part * times + text):
        found = [match.span() for match in EMAIL.finditer(each)]
        assert list(pii._emails(each)) == found
        assert Replacer(ips=False).replace(each, "x")[1] == len(found)


@given(st.lists(st.sampled_from([*"1.x ", "25", "8.8.8.8", "256", "010", "0001"]), max_size=12).map("".join))
def test_machines_are_found_where_one_pattern_finds_them(text: str) -> None:
    public = [match for match in pii.IP.findall(text) if pii._is_public(match)]
    assert Replacer().replace(text, "x")[1] == len(public)


@pytest.mark.parametrize(
    ("start", "part"),
    [("", "a+"), ("x@ ", "a+"), ("x@ ", "a."), ("x@ ", "1."), ("x@ ", "+"), ("", "a@"), ("", "a@b.c"), ("x@", "a."),
     ("x@", "a-"), ("", "1"), ("", "1."), ("", "a@[1.2.3.4"), ("", "@")],
)  # fmt: skip
def test_the_time_grows_with_the_length_and_not_with_its_square(start: str, part: str) -> None:
    def seconds(length: int) -> float:
        text = start + part * (length // len(part))
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            Replacer().replace(text, "x")
            best = min(best, time.process_time() - began)
        return best

    assert seconds(16_000) < 8 * max(seconds(4_000), 1e-3)


@given(TEXTS)
def test_what_is_found_is_what_datatrove_finds(text: str) -> None:
    formatters = pytest.importorskip(
        "datatrove.pipeline.formatters", reason="datatrove is of the extra [cluster]"
    )
    theirs = formatters.PIIFormatter(email_replacement="E", ip_replacement="I").format(text)
    mine, _ = Replacer().replace(text, "name")
    for address in EMAILS:
        mine = mine.replace(address, "E")
    for address in IPS:
        mine = mine.replace(address, "I")
    assert mine == theirs


def test_replacements_follow_from_the_documents_name() -> None:
    text = "a@b.org, c@d.org, e@f.org"
    one = Replacer().replace(text, "one")
    assert Replacer().replace(text, "one") == one
    assert one[1] == 3
    first, second, third = one[0].split(", ")
    assert first == third != second
    assert {Replacer().replace(text, name)[0] for name in "abcdefgh"} == {
        f"{a}, {b}, {a}" for a, b in (EMAILS, EMAILS[::-1])
    }


def test_replacements_are_nobodys() -> None:
    documentation = [
        ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
    ]
    assert all(any(ipaddress.ip_address(ip) in net for net in documentation) for ip in IPS)
    assert Replacer().replace(" ".join((*EMAILS, *IPS)), "x")[0].count("@") == 2


def test_each_can_be_left_alone() -> None:
    text = "a@b.org 8.8.8.8"
    assert Replacer(emails=False).replace(text, "x")[0].startswith("a@b.org ")
    assert Replacer(ips=False).replace(text, "x")[0].endswith(" 8.8.8.8")
    assert Replacer(False, False).replace(text, "x") == (text, 0)
