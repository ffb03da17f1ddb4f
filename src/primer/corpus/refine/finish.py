"""The last step: what stays, without addresses of people, and what does not, with the reason, as Parquet files."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from primer.corpus.refine.plan import Plan
from primer.corpus.refine.select import STAGES, limits
from primer.corpus.refine.store import annotated, parquet_file, stored
from primer.corpus.text.contamination import Find, mask
from primer.corpus.text.pii import Replacer

READ = (
    "id",
    "source",
    "url",
    "date",
    "bytes",
    "text",
    "clean",
    "languages",
    "scores",
    "words",
    "items",
    "places",
)
"""What is looked at of the measurements, beside the columns of the limits."""
KEPT_FOLDER = "kept"
KEPT = (
    "id",
    "source",
    "url",
    "date",
    "text",
    "language",
    "language_score",
    "cluster",
    "cluster_size",
    "words",
    "items",
    "pii",
)
DROPPED = (
    "id",
    "source",
    "url",
    "date",
    "text",
    "language",
    "stage",
    "reason",
    "cluster",
    "value",
    "bytes",
    "words",
    "items",
)


def finish(plan: Plan, task: str) -> tuple[dict[Path, str], dict[str, Any]]:
    """Write the kept and the dropped documents of a unit; the tally counts both, by stage and reason."""
    replacer = Replacer(emails=plan.recipe.pii.emails, ips=plan.recipe.pii.ips)
    column_of = {(limit.stage, limit.reason): limit.column for limit in limits(plan.recipe)}
    tally = Tally()
    copies = {
        row["row"]: row
        for table in stored(plan.folder("cluster") / f"{task}.parquet")
        for row in table.to_pylist()
    }
    files: dict[Path, str] = {}
    digests: list[dict[Path, str]] = []
    with ExitStack() as stack:
        writers: dict[str, Any] = {}

        def write(folder: str, rows: list[dict[str, Any]]) -> None:
            if rows and folder not in writers:
                path = plan.out / folder / f"{task}.parquet"
                writers[folder], digest = stack.enter_context(parquet_file(path, "zstd"))
                digests.append(digest)
            if rows:
                writers[folder](_table(rows, KEPT if folder == KEPT_FOLDER else DROPPED))

        number = 0
        decisions = stored(plan.folder("select") / f"{task}.parquet")
        columns = list(dict.fromkeys([*READ, *column_of.values()]))
        for table, decided in zip(annotated(plan, task, columns), decisions, strict=True):
            sorted_rows: dict[str, list[dict[str, Any]]] = {}
            for row, decision in zip(table.to_pylist(), decided.to_pylist(), strict=True):
                folder = _place(row, decision, copies.get(number))
                row["value"] = row.get(column_of.get((row["stage"], row["reason"]), ""))
                if folder == KEPT_FOLDER and row["items"] and plan.recipe.decontaminate.action == "mask":
                    row["text"] = _masked(row["text"], row["places"])
                    row["words"] = len(row["text"].split())
                tally.add(row)
                row["items"] = list(dict.fromkeys(row["items"]))
                if folder == KEPT_FOLDER:
                    row["text"], row["pii"] = replacer.replace(row["text"], row["id"])
                sorted_rows.setdefault(folder, []).append(row)
                number += 1
            for folder in sorted(sorted_rows):
                write(folder, sorted_rows[folder])
    for digest in digests:
        files.update(digest)
    _sweep(plan, task, files)
    return files, tally.plain()


def _sweep(plan: Plan, task: str, files: dict[Path, str]) -> None:
    """Files of the same unit that other thresholds had made."""
    for folder in (KEPT_FOLDER, *(f"dropped/{stage}" for stage in STAGES)):
        path = plan.out / folder / f"{task}.parquet"
        if path not in files:
            path.unlink(missing_ok=True)


def _place(row: dict[str, Any], decision: dict[str, Any], copy: dict[str, Any] | None) -> str:
    """Complete a row in place, and say which folder it goes to.

    Its text becomes what the rule saw that dropped it: from FineWeb's rules on, what C4's left.
    """
    languages, scores = row["languages"] or [], row["scores"] or []
    row["language"] = languages[0] if languages else None
    row["language_score"] = scores[0] if scores else None
    stage, reason = decision["stage"], decision["reason"]
    if copy:
        row["cluster"], row["cluster_size"] = copy["cluster"], copy["size"]
        if copy["reason"]:
            stage, reason = "dedup", copy["reason"]
    row["stage"], row["reason"] = stage, reason
    row["trimmed"] = 0, 0
    if row["clean"] is not None and (stage is None or STAGES.index(stage) > STAGES.index("c4")):
        text, words = row["text"], row["words"]
        row["text"], row["words"] = row["clean"], len(row["clean"].split())
        row["trimmed"] = len(text.encode()) - len(row["text"].encode()), words - row["words"]
    return f"dropped/{stage}" if stage else KEPT_FOLDER


def _masked(text: str, places: list[int]) -> str:
    """Without what stands in evaluations; places: where each stretch begins and ends, one after the other."""
    return mask(text, [Find("", *span) for span in zip(places[::2], places[1::2], strict=True)])


def _table(rows: list[dict[str, Any]], names: tuple[str, ...]) -> Any:
    import pyarrow as pa

    kinds = {
        "text": pa.large_string(),
        "language_score": pa.float32(),
        "cluster_size": pa.int64(),
        "words": pa.int64(),
        "bytes": pa.int64(),
        "pii": pa.int64(),
        "value": pa.float64(),
        "items": pa.list_(pa.string()),
    }
    return pa.table(
        {name: pa.array([row.get(name) for row in rows], kinds.get(name, pa.string())) for name in names}
    )


LINES = "lines"
"""The reason under which what C4 takes out of documents that go on is counted: no document, but bytes and words."""


class Tally:
    """Documents, bytes of pages, bytes and words of text by stage and reason; what is kept is under `kept`."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, list[int]]] = {}
        self.languages: dict[str, list[int]] = {}
        self.domains: dict[str, list[int]] = {}
        self.items: dict[str, int] = {}

    def add(self, row: dict[str, Any]) -> None:
        """Count one document."""
        stage, reason = row["stage"] or "kept", row["reason"] or "kept"
        self._count(stage, reason, 1, row["bytes"], len((row["text"] or "").encode()), row["words"] or 0)
        if any(row["trimmed"]):
            self._count("c4", LINES, 0, 0, *row["trimmed"])
        for item in row["items"]:
            self.items[item] = self.items.get(item, 0) + 1
        for table, name in ((self.languages, row["language"]), (self.domains, _domain(row["url"]))):
            if name:
                each = table.setdefault(name, [0, 0])
                each[0] += 1
                each[1] += stage == "kept"

    def _count(self, stage: str, reason: str, *values: int) -> None:
        counts = self.counts.setdefault(stage, {}).setdefault(reason, [0] * len(values))
        for place, value in enumerate(values):
            counts[place] += value

    def plain(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "counts": self.counts,
            "languages": self.languages,
            "domains": self.domains,
            "items": self.items,
        }


def _domain(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""
