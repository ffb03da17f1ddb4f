"""Addresses of people and of their machines: e-mail addresses and public IP addresses are replaced.

As datatrove's PIIFormatter finds them. It takes its replacements in turn, so that what stands in a document depends
on the documents before it; here they follow from the document's name, and the same document is always the same.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"

EMAIL = re.compile(
    rf"\b{_ATOM}(?:\.{_ATOM})*@"
    rf"(?:(?:{_LABEL}\.)+{_LABEL}|\[(?:{_BYTE}\.){{3}}(?:{_BYTE}|[A-Za-z0-9-]*[A-Za-z0-9]:)])"
)
"""Local parts and domains as RFC 5322 and RFC 1035 have them."""

IP = re.compile(rf"(?:{_BYTE}\.){{3}}{_BYTE}")
"""IPv4."""
_DOTTED = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]")
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

        def email(match: re.Match[str]) -> str:
            nonlocal found
            found += 1
            return EMAILS[(start[0] + found) % len(EMAILS)]

        def ip(match: re.Match[str]) -> str:
            nonlocal found
            if not _is_public(match.group()):
                return match.group()
            found += 1
            return IPS[(start[1] + found) % len(IPS)]

        if self.emails and "@" in text:
            text = EMAIL.sub(email, text)
        if self.ips and _DOTTED.search(text):
            text = IP.sub(ip, text)
        return text, found


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:  # such as 010.1.1.1
        return False
