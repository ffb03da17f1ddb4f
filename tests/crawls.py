"""A small crawl, made here: prose that the filters keep, and pages that each stage has something against."""

from __future__ import annotations

import gzip
import random
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

NOUNS = [
    "time",
    "people",
    "water",
    "city",
    "river",
    "house",
    "garden",
    "morning",
    "evening",
    "music",
    "letter",
    "window",
    "market",
    "engine",
    "history",
    "question",
    "answer",
    "station",
    "village",
    "mountain",
    "winter",
    "summer",
    "journey",
    "teacher",
    "student",
    "picture",
    "number",
    "science",
    "paper",
    "ocean",
    "island",
    "forest",
    "bridge",
    "kitchen",
    "doctor",
    "machine",
    "animal",
    "colour",
    "weather",
    "moment",
    "language",
    "country",
    "family",
    "friend",
    "building",
    "story",
    "children",
    "company",
    "problem",
    "system",
    "program",
    "government",
    "interest",
    "service",
    "body",
    "office",
    "power",
    "hour",
    "line",
    "law",
    "car",
    "result",
]
VERBS = [
    "found",
    "made",
    "took",
    "brought",
    "kept",
    "gave",
    "carried",
    "followed",
    "reached",
    "watched",
    "built",
    "drew",
]
BEFORE = ["the", "a", "this", "that", "every", "one", "some", "another", "our", "their"]
BETWEEN = ["of", "to", "with", "in", "near", "under", "behind", "beside", "against", "through"]
LINKS = ["and", "but", "because", "while", "so", "although", "since", "where"]


def prose(seed: int, sentences: int = 16) -> list[str]:
    """Sentences of English, of a kind, that no rule has anything against."""
    chance = random.Random(seed)

    def clause() -> str:
        slots = (BEFORE, NOUNS, BETWEEN, BEFORE, NOUNS, VERBS, BEFORE, NOUNS, BETWEEN, BEFORE, NOUNS)
        return " ".join(chance.choice(slot) for slot in slots)

    return [
        f"{clause().capitalize()} {chance.choice(LINKS)} {clause()}, to be sure." for _ in range(sentences)
    ]


def page(paragraphs: Sequence[str], title: str = "A page") -> bytes:
    """HTML with a main part."""
    body = "\n".join(f"<p>{each}</p>" for each in paragraphs)
    return f"<!doctype html><html><head><title>{title}</title></head><body><main>{body}</main></body></html>".encode()


def record(url: str, payload: bytes, kind: str = "response", content_type: str = "text/html") -> bytes:
    """One WARC record."""
    http = (
        b"HTTP/1.1 200 OK\r\nContent-Type: " + content_type.encode() + b"\r\n\r\n"
        if kind == "response"
        else b""
    )
    block = http + payload
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{sha256(url.encode()).hexdigest()[:32]}>\r\n"
        f"WARC-Target-URI: {url}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def archive(path: Path, records: Sequence[bytes]) -> Path:
    """A .warc.gz, a member a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(gzip.compress(each, mtime=0) for each in records))
    return path


GERMAN = (
    "Der Fluss fließt durch die alte Stadt, und am Abend stehen die Leute auf der Brücke und sehen dem Wasser zu. "
    "Niemand weiß, woher die Lichter kommen, die im Winter über den Bergen leuchten, aber alle haben sie gesehen."
)


def records(first: int, count: int) -> list[bytes]:
    """Pages of every fate, `count` of them good."""
    found = [record("http://example.org/robots", b"User-agent: *", content_type="text/plain")]
    for number in range(first, first + count):
        found.append(record(f"http://example.org/{number}", page(prose(number))))
    base = f"http://other.example/{first}"
    found += [
        record(f"{base}/german", page([GERMAN] * 3)),
        record(
            f"{base}/short",
            page([*prose(first + 500, 1), "Nobody knew what was written in the letters of that day."]),
        ),
        record(f"{base}/again", page([prose(first)[0]] * 12)),
        record(
            f"{base}/braces",
            page([*prose(first + 1000), "function f() { return the value of it; } is here."]),
        ),
        record(f"{base}/copy", page(prose(first))),
        record(
            f"{base}/near", page([*prose(first, 15), "One more sentence stands at the end of the page here."])
        ),
        record(f"{base}/request", b"GET / HTTP/1.1\r\n\r\n", kind="request"),
        record(f"{base}/empty", page([])),
        record(
            f"{base}/mail",
            page([*prose(first + 2000), "Write to somebody@example.net or to 8.8.8.8 about it."]),
        ),
    ]
    return found
