"""Two corpora of the same pages beside each other: what one kept and the other did not, and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from primer.corpus.refine.kept import Corpus
from primer.corpus.refine.plan import Plan
from primer.corpus.refine.select import STAGES
from primer.corpus.refine.store import stored


def compared(one: Path, other: Path, examples: int) -> dict[str, Any]:
    """How many documents both kept, either kept alone, and for which reasons the other dropped those.

    DataError for a corpus that is not finished.
    """
    plans = Corpus.open(one).plan, Corpus.open(other).plan
    first, second = map(_kept, plans)
    union = len(first | second)
    reasons = []
    for plan, mine, theirs in zip(plans, (first, second), (second, first), strict=True):
        lost = theirs - mine
        counts: Counter[tuple[str, str]] = Counter()
        named: dict[tuple[str, str], list[str]] = {}
        for stage in STAGES:
            for unit in plan.units:
                path = plan.out / "dropped" / stage / f"{unit.name}.parquet"
                for table in stored(path, ["id", "url", "reason"]):
                    for row in table.to_pylist():
                        if row["id"] in lost:
                            key = (stage, row["reason"])
                            counts[key] += 1
                            named.setdefault(key, []).append(row["url"] or row["id"])
        reasons += [
            {
                "by": str(plan.out),
                "stage": stage,
                "reason": reason,
                "documents": count,
                "examples": sorted(named[stage, reason])[:examples],
            }
            for (stage, reason), count in counts.most_common()
        ]
    return {
        "both": len(first & second),
        "only_one": len(first - second),
        "only_other": len(second - first),
        "overlap": len(first & second) / union if union else 1.0,
        "reasons": reasons,
    }


def _kept(plan: Plan) -> set[str]:
    return {
        name
        for unit in plan.units
        for table in stored(plan.out / "kept" / f"{unit.name}.parquet", ["id"])
        for name in table["id"].to_pylist()
    }
