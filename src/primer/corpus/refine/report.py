"""What happened to every document, as data: counted by stage and reason, in = out + dropped, with samples.

`page.py` makes a page of it. Nothing here is measured anew: tallies come from the receipts, histograms and samples from
the columns that the stages left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from primer.config import dotted, to_dict
from primer.corpus.refine.described import COLUMN_TITLES, STAGE_TITLES, reason_in_words
from primer.corpus.refine.estimate import is_on
from primer.corpus.refine.explain import offending
from primer.corpus.refine.finish import LINES
from primer.corpus.refine.kept import Corpus
from primer.corpus.refine.plan import Plan
from primer.corpus.refine.run import Blamed
from primer.corpus.refine.select import STAGES, Limit, limits
from primer.corpus.refine.store import annotated, stored
from primer.errors import PrimerError

FORMAT = 1
SAMPLES = 5
"""Of what each rule dropped: those with the smallest hashes of their ids, the same whatever did the work."""
SHOWN = 1500
"""Characters of a sample."""
BINS = 40
MANY = 50
"""Domains that are listed."""

COUNTED = ("documents", "bytes", "text_bytes", "words")
Counts = dict[str, int | None]
TokensOf = Callable[[Iterable[str]], int]
"""How many tokens texts have together."""


def report(
    corpus: Corpus, tokens: Mapping[str, Any] | None = None, count: TokensOf | None = None
) -> dict[str, Any]:
    """All of it, ready for JSON. tokens: what the shards hold; count: without it, tokens are not counted (null).

    Raises PrimerError if any document is unaccounted for: that would be our mistake, and nothing else could be
    believed.
    """
    plan = corpus.plan
    tally = merged(plan)
    counted = _tokens(plan, count) if count else {}
    stages, totals = _stages(plan, tally["counts"], counted)
    rows = sum(_tally(plan, "annotate", unit.name)["rows"] for unit in plan.units)
    if rows != totals["in"]["documents"]:
        raise PrimerError(
            f"{rows} documents came in, and {totals['in']['documents']} are accounted for", str(plan.out)
        )
    _fill_samples(plan, stages)
    return {
        "format": FORMAT,
        "recipe": {name: getattr(plan.recipe, name) for name in ("recipe", "version", "about")},
        "settings": {key: value for key, value in dotted(to_dict(plan.recipe)).items() if "." in key},
        "made_with": plan.tools.described(),
        "inputs": [
            {
                "name": each.name,
                "kind": each.kind,
                "bytes": each.size,
                "sha256": each.sha256,
                "group": each.group,
            }
            for each in plan.inputs
        ],
        "totals": totals,
        "stages": stages,
        "histograms": _histograms(plan),
        "languages": _gained(tally["languages"], "language"),
        "domains": _gained(tally["domains"], "domain")[:MANY],
        "clusters": _clusters(plan),
        "lengths": _lengths(plan),
        "contamination": {
            "action": plan.recipe.decontaminate.action,
            "items": sorted(tally["items"].items(), key=lambda each: (-each[1], each[0]))[:MANY],
            "found": len(tally["items"]),
        }
        if plan.recipe.decontaminate.files
        else None,
        "tokens": dict(tokens) if tokens else None,
        "damage": _damage(plan),
        "crashed": sorted(
            page for unit in plan.units for page in Blamed(plan.folder("annotate")).of(unit.name)
        ),
    }


def _tally(plan: Plan, job: str, task: str) -> dict[str, Any]:
    receipt = plan.store.receipt(job, plan.keys[job], task)
    assert receipt, f"{job} of {task} is not done"
    return receipt.tally


def merged(plan: Plan) -> dict[str, Any]:
    """The tallies of all units as one."""
    counts: dict[str, dict[str, list[int]]] = {}
    tables: dict[str, dict[str, list[int]]] = {"languages": {}, "domains": {}}
    items: dict[str, int] = {}
    for unit in plan.units:
        tally = _tally(plan, "finish", unit.name)
        for stage, reasons in tally["counts"].items():
            for reason, values in reasons.items():
                held = counts.setdefault(stage, {}).setdefault(reason, [0] * len(COUNTED))
                for place, value in enumerate(values):
                    held[place] += value
        for name, table in tables.items():
            for key, (before, after) in tally[name].items():
                each = table.setdefault(key, [0, 0])
                each[0] += before
                each[1] += after
        for item, documents in tally["items"].items():
            items[item] = items.get(item, 0) + documents
    return {"counts": counts, "items": items, **tables}


def _counts(values: Iterable[int], tokens: int | None) -> Counts:
    return {**dict(zip(COUNTED, values, strict=True)), "tokens": tokens}


def _plus(one: Counts, other: Counts, sign: int = 1) -> Counts:
    return {
        key: None if value is None or other[key] is None else value + sign * (other[key] or 0)
        for key, value in one.items()
    }


def _sum(many: Iterable[Counts], known: bool) -> Counts:
    total = _counts([0] * len(COUNTED), 0 if known else None)
    for each in many:
        total = _plus(total, each)
    return total


def _stages(
    plan: Plan, counts: dict[str, dict[str, list[int]]], tokens: dict[tuple[str, str], int]
) -> tuple[list[dict[str, Any]], dict[str, Counts]]:
    """Every stage with what came in, what it dropped by reason, and what went on."""
    known = bool(tokens)

    def of(stage: str, reason: str) -> Counts:
        return _counts(counts[stage][reason], tokens.get((stage, reason), 0) if known else None)

    by_stage = {stage: {reason: of(stage, reason) for reason in reasons} for stage, reasons in counts.items()}
    kept = _sum(by_stage.get("kept", {}).values(), known)
    dropped = {stage: _sum(by_stage.get(stage, {}).values(), known) for stage in STAGES}
    going = _plus(kept, _sum(dropped.values(), known))
    totals = {"in": going, "kept": kept, "dropped": _sum(dropped.values(), known)}
    found = []
    rules = {(limit.stage, limit.reason): limit for limit in limits(plan.recipe)}
    for stage in STAGES:
        title, about = STAGE_TITLES[stage]
        after = _plus(going, dropped[stage], -1)
        reasons = sorted(
            by_stage.get(stage, {}).items(), key=lambda each: (-(each[1]["documents"] or 0), each[0])
        )
        found.append(
            {
                "stage": stage,
                "title": title,
                "about": about,
                "on": is_on(plan.recipe, stage),
                "in": going,
                "dropped": dropped[stage],
                "out": after,
                "reasons": [
                    _reason(stage, name, values, rules.get((stage, name))) for name, values in reasons
                ],
            }
        )
        going = after
    assert going == kept
    return found, totals


def _reason(stage: str, name: str, values: Counts, limit: Limit | None) -> dict[str, Any]:
    return {
        "reason": name,
        "about": reason_in_words(stage, name),
        "setting": (limit.setting or None) if limit else None,
        "column": limit.column if limit else None,
        "threshold": limit.threshold if limit else None,
        "above": limit.above if limit else True,
        **values,
        "samples": [],
    }


def _dropped(plan: Plan, stage: str, names: list[str] | None = None) -> Iterator[dict[str, Any]]:
    for unit in plan.units:
        for table in stored(plan.out / "dropped" / stage / f"{unit.name}.parquet", names):
            yield from table.to_pylist()


def _tokens(plan: Plan, count: TokensOf) -> dict[tuple[str, str], int]:
    """Of what was dropped and kept, by stage and reason."""
    found: Counter[tuple[str, str]] = Counter()
    for stage in STAGES:
        for unit in plan.units:
            for table in stored(plan.out / "dropped" / stage / f"{unit.name}.parquet", ["reason", "text"]):
                texts: dict[str, list[str]] = {}
                for row in table.to_pylist():
                    texts.setdefault(row["reason"], []).append(row["text"] or "")
                for reason, many in texts.items():
                    found[stage, reason] += count(many)
    for unit in plan.units:
        for table in stored(plan.out / "kept" / f"{unit.name}.parquet", ["text"]):
            found["kept", "kept"] += count(table["text"].to_pylist())
        found["c4", LINES] += sum(count(before) - count(after) for before, after in _trimmed(plan, unit.name))
    return dict(found)


def _trimmed(plan: Plan, unit: str) -> Iterator[tuple[list[str], list[str]]]:
    """Texts of documents that went on past C4, before and after it took lines out of them."""
    later = {None, *STAGES[STAGES.index("c4") + 1 :]}
    decisions = stored(plan.folder("select") / f"{unit}.parquet", ["stage"])
    for table, decided in zip(annotated(plan, unit, ["text", "clean"]), decisions, strict=True):
        columns = (table["text"], table["clean"], decided["stage"])
        rows = list(zip(*(each.to_pylist() for each in columns), strict=True))
        went = [(text, clean) for text, clean, stage in rows if clean is not None and stage in later]
        yield [text for text, _ in went], [clean for _, clean in went]


def _rank(identity: str) -> bytes:
    return blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _fill_samples(plan: Plan, stages: list[dict[str, Any]]) -> None:
    """For each reason some documents, chosen by the hashes of their ids, with the place of the offence."""
    for stage in stages:
        best: dict[str, list[tuple[bytes, str]]] = {}
        for row in _dropped(plan, stage["stage"], ["id", "reason"]):
            held = best.setdefault(row["reason"], [])
            held.append((_rank(row["id"]), row["id"]))
            if len(held) > 4 * SAMPLES:
                held.sort()
                del held[SAMPLES:]
        chosen = {name: sorted(held)[:SAMPLES] for name, held in best.items()}
        names = {identity for held in chosen.values() for _, identity in held}
        rows = {row["id"]: row for row in _rows_where(plan, f"dropped/{stage['stage']}", "id", names)}
        for reason in stage["reasons"]:
            for _, identity in chosen.get(reason["reason"], []):
                row = rows[identity]
                reason["samples"].append(_sample(row, row["text"] or "", offending(row)))


def _rows_where(plan: Plan, folder: str, column: str, chosen: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Documents whose id or cluster is among the chosen. Only the texts that are asked for are read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(sorted(chosen), pa.string())
    for unit in plan.units:
        path = plan.out / folder / f"{unit.name}.parquet"
        if any(pc.any(pc.is_in(each[column], wanted)).as_py() for each in stored(path, [column])):
            for table in stored(path):
                yield from table.filter(pc.is_in(table[column], wanted)).to_pylist()


def _least(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The few documents that are shown of many."""
    return sorted(rows, key=lambda row: _rank(row["id"]))[:SAMPLES]


def _sample(row: dict[str, Any], text: str, where: Sequence[tuple[int, int]]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "url": row["url"],
        "language": row["language"],
        "value": row.get("value"),
        "text": text[:SHOWN],
        "more": max(len(text) - SHOWN, 0),
        "spans": [[start, min(end, SHOWN)] for start, end in where if start < SHOWN],
    }


def _histograms(plan: Plan) -> list[dict[str, Any]]:
    """Of each limit's column: the documents that got so far, and those that this limit dropped.

    Everything is read twice, for the bounds and for the counts, and never held.
    """
    every = [limit for limit in limits(plan.recipe) if limit.setting]
    low, high = np.full(len(every), np.inf), np.full(len(every), -np.inf)
    for number, values, _ in _reached(plan, every):
        low[number] = min(low[number], values.min(initial=np.inf))
        high[number] = max(high[number], values.max(initial=-np.inf))
    edges = [_edges(*each) for each in zip(low, high, (limit.threshold for limit in every), strict=True)]
    reached, dropped = np.zeros((2, len(every), BINS + 1), int)
    for number, values, gone in _reached(plan, every):
        if len(values):
            bins = len(edges[number]) - 1
            reached[number, :bins] += np.histogram(values, edges[number])[0]
            dropped[number, :bins] += np.histogram(values[gone], edges[number])[0]
    return [
        {
            "column": limit.column,
            "title": COLUMN_TITLES.get(limit.column, limit.column),
            "stage": limit.stage,
            "reason": limit.reason,
            "threshold": limit.threshold,
            "above": limit.above,
            "edges": edges[number].tolist(),
            "reached": reached[number, : len(edges[number]) - 1].tolist(),
            "dropped": dropped[number, : len(edges[number]) - 1].tolist(),
        }
        for number, limit in enumerate(every)
        if low[number] <= high[number]
    ]


def _reached(plan: Plan, every: Sequence[Limit]) -> Iterator[tuple[int, Any, Any]]:
    """(number of a limit, values of documents that got to it, which of them it dropped), some hundred at a time."""
    order = {stage: number for number, stage in enumerate(STAGES)}
    names = list(dict.fromkeys(limit.column for limit in every))
    for unit in plan.units:
        decided = stored(plan.folder("select") / f"{unit.name}.parquet")
        for table, decision in zip(annotated(plan, unit.name, names), decided, strict=True):
            stage = np.array([order.get(each, len(order)) for each in decision["stage"].to_pylist()])
            reason = np.array([each or "" for each in decision["reason"].to_pylist()])
            for number, limit in enumerate(every):
                column = table[limit.column].to_numpy(zero_copy_only=False)
                here = (stage >= order[limit.stage]) & ~np.isnan(column)
                gone = (reason == limit.reason) & (stage == order[limit.stage])
                yield number, column[here], gone[here]


def _edges(low: float, high: float, threshold: float) -> Any:
    """Bins from the least to the greatest, the threshold within; where numbers span decades, on a log scale."""
    low, high = min(low, threshold), max(high, threshold)
    if low == high:
        high = low + 1
    if low >= 0 and high > 1000:
        return np.concatenate([[0.0], np.geomspace(max(low, 1.0), high * (1 + 1e-9), BINS)])
    return np.linspace(low, high, BINS + 1)


def _gained(table: dict[str, list[int]], name: str) -> list[dict[str, Any]]:
    rows = sorted(table.items(), key=lambda each: (-each[1][0], each[0]))
    return [{name: key, "in": before, "kept": after} for key, (before, after) in rows]


def _clusters(plan: Plan) -> dict[str, Any]:
    """How large the clusters of copies are, and some of them."""
    sizes: Counter[int] = Counter()
    documents = 0
    heads: list[dict[str, Any]] = []
    for unit in plan.units:
        for table in stored(plan.out / "kept" / f"{unit.name}.parquet", ["id", "cluster", "cluster_size"]):
            for row in table.to_pylist():
                size = row["cluster_size"] or 1
                sizes[size] += 1
                documents += size
                if size > 1:
                    heads.append(row)
        heads = sorted(heads, key=lambda row: (-row["cluster_size"], _rank(row["id"])))[:SAMPLES]
    copies: dict[str, list[dict[str, Any]]] = {row["cluster"]: [] for row in heads}
    for row in _rows_where(plan, "dropped/dedup", "cluster", copies):
        held = copies[row["cluster"]]
        held.append(row)
        if len(held) > 4 * SAMPLES:
            held[:] = _least(held)
    shown = {row["id"]: _shown(row) for row in _rows_where(plan, "kept", "id", [row["id"] for row in heads])}
    examples = [
        {
            "size": row["cluster_size"],
            "kept": shown[row["id"]],
            "copies": [{**_shown(copy), "reason": copy["reason"]} for copy in _least(copies[row["cluster"]])],
        }
        for row in heads
    ]
    return {
        "documents": documents,
        "clusters": sum(sizes.values()),
        "sizes": [list(each) for each in sorted(sizes.items())],
        "examples": examples,
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "url": row["url"], "text": (row["text"] or "")[: SHOWN // 2]}


def _lengths(plan: Plan) -> dict[str, Any]:
    """Words of the documents that came in with a text, and of those that were kept."""
    edges = np.concatenate([[0], np.geomspace(1, 1e6, 31)])
    before, after = np.zeros(len(edges) - 1, int), np.zeros(len(edges) - 1, int)
    for unit in plan.units:
        for table in annotated(plan, unit.name, ["words"]):
            values = table["words"].drop_null().to_numpy()
            before += np.histogram(np.minimum(values, 1e6), edges)[0]
        for table in stored(plan.out / "kept" / f"{unit.name}.parquet", ["words"]):
            after += np.histogram(np.minimum(table["words"].to_numpy(), 1e6), edges)[0]
    return {"edges": edges.tolist(), "in": before.tolist(), "kept": after.tolist()}


DAMAGE = ("truncated", "corrupt", "malformed", "not_an_archive", "not_json", "undecodable")
"""Reasons of stage 1 that say: this is not as somebody wrote it. A page that is too large is whole."""


def _damage(plan: Plan) -> list[dict[str, Any]]:
    """Stretches of the input that could not be read."""
    return [
        {
            "source": row["source"],
            "place": row["id"].rpartition("#")[2],
            "bytes": row["bytes"],
            "why": row["reason"],
        }
        for row in _dropped(plan, "records", ["id", "source", "bytes", "reason"])
        if row["reason"] in DAMAGE
    ]
