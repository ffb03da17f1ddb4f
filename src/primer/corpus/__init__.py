"""A document's address and language; where text comes from."""

from __future__ import annotations

from primer.corpus.document import Document
from primer.corpus.sources import NAMED, Source, open_source, open_sources

__all__ = ["NAMED", "Document", "Source", "open_source", "open_sources"]
