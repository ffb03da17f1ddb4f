"""What these tests share: crawled pages, and datatrove's first step as an outsider."""

from pathlib import Path
from types import SimpleNamespace

import pytest

MINHASH = {"n_grams": 5, "num_buckets": 14, "hashes_per_bucket": 8, "seed": 1}


@pytest.fixture
def pages(real_data: Path) -> list[str]:
    """The visible text of every tenth of 1,500 documentation pages in many languages."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType
    from resiliparse.extract.html2text import extract_plain_text

    file = real_data / "warc" / "debian-docs-a.warc.gz"
    if not file.is_file():
        pytest.skip("PRIMER_DATA has no crawled pages")
    with file.open("rb") as stream:
        records = ArchiveIterator(stream, record_types=WarcRecordType.response)
        return [
            extract_plain_text(record.reader.read().decode("utf-8", "replace"), main_content=False)
            for number, record in enumerate(records)
            if number % 10 == 0
        ]


@pytest.fixture
def datatrove_step(tmp_path, monkeypatch):
    """`datatrove_step(words=None)`: its MinhashDedupSignature, with its own splitter into words or a given one."""
    import xxhash
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig

    # Its hash of a str is that of its UTF-8. Since version 4 xxhash wants to be given the bytes.
    monkeypatch.setattr(
        "datatrove.utils.hashes.xxhash.xxhash64", lambda text: xxhash.xxh64_intdigest(text.encode())
    )

    def step(words=None):
        config = MinhashConfig(**MINHASH, hash_config=HashConfig(precision=64, hash_fc="xxhash"))
        made = MinhashDedupSignature(str(tmp_path / "datatrove" / "signatures"), config)
        if words is not None:
            made.word_tokenizer = SimpleNamespace(word_tokenize=words)
        return made

    return step
