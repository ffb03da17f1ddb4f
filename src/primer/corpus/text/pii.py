"""Addresses of people and of their machines: e-mail addresses and public IP addresses are replaced.

As datatrove's PIIFormatter finds them. It takes its replacements in turn, so that what stands in a document depends
on the documents before it; here they follow from the document's name, and the same document is always the same.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

_ATOM = string.ascii_letters + string.digits + "!#$%&'*+/=?^_`{|}~-"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"

_LOCAL_START = re.compile(rf"\b[{re.escape(_ATOM)}]")
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})++|\[(?:{_BYTE}\.){{3}}(?:{_BYTE}|[A-Za-z0-9-]*[A-Za-z0-9]:)]")
"""Domains as RFC 1035 has them; local parts, as RFC 5322 has them, are found by `_emails`."""

IP = re.compile(rf"(?:{_BYTE}\.){{3}}{_BYTE}")
"""IPv4."""
_DOTTED = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
"""What every text with an address has: found, or not, in a third of the time."""

EMAILS = ("email@example.com", "firstname.lastname@example.org")
"""Domains that RFC 2606 keeps for examples."""

IPS = tuple(f"{net}.{host}" for net in ("192.0.2", "198.51.100", "203.0.113") for host in (1, 2))
"""Addresses that RFC 5737 keeps for documentation. datatrove takes six public ones, which are somebody's."""


@dataclass(frozen=True)
class Replacer:
    """Which of the two are replaced."""

    emails: bool = True
    ips: bool = True

    def replace(self, text: str, name: str) -> tuple[str, int]:
        """(the text without them, how many there were). name: of the document, which chooses the replacements."""
        found = 0
        start = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=2).digest()

        def ip(match: re.Match[str]) -> str:
            nonlocal found
            if not _is_public(match.group()):
                return match.group()
            found += 1
            return IPS[(start[1] + found) % len(IPS)]

        if self.emails and "@" in text:
            parts: list[str] = []
            kept = 0
            for first, after in _emails(text):
                found += 1
                parts += text[kept:first], EMAILS[(start[0] + found) % len(EMAILS)]
                kept = after
            text = "".join(parts) + text[kept:]
        if self.ips and _DOTTED.search(text):
            text = IP.sub(ip, text)
        return text, found


def _emails(text: str) -> Iterator[tuple[int, int]]:
    """Where each address begins and ends: what the pattern `\\batom(\\.atom)*@domain` finds from left to right.

    datatrove looks for this pattern, which at each letter of "a.a.a…" reads all that follows once more. Neither a local
    part nor a domain has an "@" in it, so that from an "@" we need not look beyond its neighbours to either side: the
    same addresses, of any length, in a time that grows with the text's.
    """
    after = 0
    at = text.find("@")
    while at >= 0:
        if domain := _DOMAIN.match(text, at + 1):
            start = _local_start(text, after, at)
            after = at + 1 if start is None else domain.end()
            if start is not None:
                yield start, after
        at = text.find("@", at + 1)


def _local_start(text: str, after: int, at: int) -> int | None:
    """Where the longest local part before an "@" begins, not before `after`: atoms with single dots between them.

    As datatrove has it, it begins where a word begins or ends.
    """
    before = text[after:at]
    if before.endswith("."):
        return None
    start = after + len(before.rstrip(_ATOM + "."))
    dots = text.rfind("..", start, at)
    begun = _LOCAL_START.search(text, start if dots < 0 else dots + 2, at)
    return begun.start() if begun else None


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:  # such as 010.1.1.1
        return False
