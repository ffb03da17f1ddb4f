"""Our decisions beside datatrove's: `python benchmarks/corpus_agreement.py [--recipe fineweb] [--save]`.

The sample crawl is refined by a recipe. Then datatrove's own stock filters (language, Gopher twice, C4, FineWeb), with
their own words (spaCy's), are asked about the same extracted texts, one after the other as in its published script, and
its MinHash (signatures, buckets, clusters) about what they keep. Counted: documents with the same decision and the same
reason, and the documents that only one of the two keeps. Needs datatrove, spacy and xxhash < 4 (for its MinHash).
Goal: ≥ 99.5 % of documents, and the same kept set from MinHash.
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from primer.corpus.refine.plan import make
from primer.corpus.refine.recipe import resolve
from primer.corpus.refine.run import run
from primer.corpus.refine.select import STAGES
from primer.corpus.refine.store import annotated, stored
from primer.corpus.text.language import LanguageModel
from primer.device import cores
from receipt import write

WARC = "warc/debian-docs-a.warc.gz"
MEASURED = ("src/primer/corpus", "benchmarks/corpus_agreement.py")


def ours(recipe: str, warc: Path, out: Path, characters: int | None) -> tuple[dict[str, str], dict[str, str]]:
    """(texts, fates) by the id of the page; fates are stage and reason, or kept."""
    flags = {"records.max_bytes": 16 << 20}
    if characters is not None:
        flags["language.characters"] = characters
    plan = make(resolve(recipe, flags).config, [warc], out, lambda *_: None)
    run(plan, cores())
    texts = {}
    for unit in plan.units:
        for table in annotated(plan, unit.name, ["id", "text"]):
            texts |= {row["id"]: row["text"] for row in table.to_pylist() if row["text"] is not None}
    fates = {}
    for folder in ("kept", *(f"dropped/{stage}" for stage in STAGES)):
        for unit in plan.units:
            for table in stored(out / folder / f"{unit.name}.parquet"):
                for row in table.to_pylist():
                    fates[row["id"]] = f"{row['stage']}: {row['reason']}" if folder != "kept" else "kept"
    return texts, {name: fate for name, fate in fates.items() if name in texts}


def filters() -> list[tuple[str, Any]]:
    """datatrove's, in the order of its script."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    return [
        ("repetition", GopherRepetitionFilter()),
        ("quality", GopherQualityFilter()),
        ("c4", C4QualityFilter(filter_no_terminal_punct=False)),
        ("fineweb", FineWebQualityFilter()),
    ]


def theirs(texts: dict[str, str], folder: Path) -> dict[str, str]:
    """The same by datatrove, on the same texts."""
    from datatrove.data import Document

    model = LanguageModel()
    fates: dict[str, str] = {}
    left: dict[str, str] = {}
    steps = filters()
    for name, text in texts.items():
        labels, scores = model._loaded.predict(text.replace("\n", " "), k=-1)
        pairs = dict(zip(labels, scores, strict=True))
        if not pairs.get("__label__en", 0.0) > 0.65:
            fates[name] = f"language: language_{labels[0].removeprefix('__label__') if labels else 'unknown'}"
            continue
        document = Document(text=text, id=name)
        for stage, step in steps:
            verdict = step.filter(document)
            if verdict is not True:
                fates[name] = f"{stage}: {verdict[1]}"
                break
        else:
            left[name] = document.text
    for name, cluster_head in minhash(left, folder).items():
        fates[name] = "kept" if cluster_head else "dedup: duplicate"
    return fates


def minhash(texts: dict[str, str], folder: Path) -> dict[str, bool]:
    """Which documents datatrove's MinHash keeps."""
    import struct

    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(
        n_grams=5, num_buckets=14, hashes_per_bucket=8, hash_config=HashConfig(precision=64)
    )
    signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
    documents = (Document(text=text, id=name) for name, text in texts.items())
    MinhashDedupSignature(signatures, config=config).run(documents, 0, 1)
    for rank in range(14):
        MinhashDedupBuckets(signatures, buckets, config=config).run(None, rank, 14)
    MinhashDedupCluster(buckets, removed, config=config).run(None, 0, 1)
    path = Path(removed, "000000.remove")
    gone = {number for (number,) in struct.iter_unpack("<I", path.read_bytes())} if path.is_file() else set()
    return {name: place not in gone for place, name in enumerate(texts)}


def main() -> None:
    """Compare, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", default="fineweb-fast,fineweb")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    warc = Path(os.environ["PRIMER_DATA"]) / WARC
    for recipe in options.recipes.split(","):
        with tempfile.TemporaryDirectory() as name:
            texts, mine = ours(recipe, warc, Path(name) / "ours", 0)
            other = theirs(texts, Path(name))
        figures[recipe] = compared(mine, other)
        print(recipe, json.dumps(figures[recipe], indent=1, ensure_ascii=False), flush=True)
    if options.save:
        print(write("corpus_agreement", figures, measured=MEASURED))


def compared(mine: dict[str, str], other: dict[str, str]) -> dict[str, Any]:
    """Shares of equal fates; duplicates are told apart by us alone (exact, near)."""

    def known(fate: str) -> str:
        return "dedup: duplicate" if fate.startswith("dedup") else fate

    pairs = {name: (known(fate), other[name]) for name, fate in mine.items()}
    kept = {name for name, fate in mine.items() if fate == "kept"}
    kept_there = {name for name, fate in other.items() if fate == "kept"}
    differences = Counter(f"{one} | {two}" for one, two in pairs.values() if one != two)
    return {
        "documents": len(pairs),
        "same_decision": sum((one == "kept") == (two == "kept") for one, two in pairs.values()) / len(pairs),
        "same_reason": sum(one == two for one, two in pairs.values()) / len(pairs),
        "kept_by_both": len(kept & kept_there),
        "kept_by_us_alone": len(kept - kept_there),
        "kept_by_datatrove_alone": len(kept_there - kept),
        "differences": dict(differences.most_common()),
    }


if __name__ == "__main__":
    main()
