"""Addresses of people and machines: found where datatrove finds them, replaced by what is nobody's."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer.corpus.text.pii import EMAILS, IPS, Replacer

PIECES = (
    "a|b.c|@|example.com|x@y|x@y.org|8.8.8.8|10.0.0.1|192.168.1.1|256.1.1.1|1.2.3|999.8.8.8.8|.| |\n|mail:|<|>|-|"
    "[1.2.3.4]|user@[1.2.3.4]|ä@ö.de|010.1.1.1"
)
TEXTS = st.lists(st.sampled_from(PIECES.split("|")), max_size=12).map("".join)


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
