"""From archives to kept and dropped files: nothing uncounted, nothing done twice, the same bytes in every way."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from crawls import archive, record, records
from primer.corpus.refine.kept import Corpus
from primer.corpus.refine.plan import keep, make
from primer.corpus.refine.recipe import resolve
from primer.corpus.refine.report import merged
from primer.corpus.refine.run import Outcome, run
from primer.corpus.refine.store import stored
from primer.errors import SurroundingsError
from primer.lock import RunLock

Crawl = Callable[[], list[Path]]


def quiet(*_: object) -> None:
    pass


def refined(out: Path, inputs: Sequence[Path], processes: int = 1, **flags: object) -> Outcome:
    """A corpus by `fineweb-fast`; flags as repetition__on=False."""
    recipe = resolve("fineweb-fast", {key.replace("__", "."): value for key, value in flags.items()}).config
    return run(make(recipe, inputs, out, quiet), processes)


def fates(out: Path) -> dict[str, str]:
    """By URL, what became of each page."""
    found = {}
    for path in sorted(out.glob("dropped/*/*.parquet")):
        for table in stored(path):
            found |= {row["url"]: row["reason"] for row in table.to_pylist()}
    for document in Corpus.open(out).documents():
        found[document.url] = "kept"
    return found


def bytes_of(out: Path) -> dict[str, str]:
    """SHA-256 of every file that a reader looks at."""
    files = [*out.glob("kept/*"), *out.glob("dropped/*/*")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_page_has_the_fate_that_it_deserves(crawl: Crawl, tmp_path: Path) -> None:
    refined(tmp_path / "out", crawl())
    found = fates(tmp_path / "out")
    base = "http://other.example/0"
    assert {url: found[url] for url in found if url.startswith(base + "/")} == {
        f"{base}/german": "language_de",
        f"{base}/short": "gopher_short_doc",
        f"{base}/again": "dup_para_frac",
        f"{base}/braces": "curly_bracket",
        f"{base}/copy": "exact_duplicate",
        f"{base}/near": "near_duplicate",
        f"{base}/request": "record_request",
        f"{base}/empty": "no_text",
        f"{base}/mail": "kept",
    }
    assert [url for url, fate in found.items() if fate == "not_html"] == ["http://example.org/robots"]
    assert sum(fate == "kept" for fate in found.values()) == 12


def test_what_is_in_is_kept_or_dropped(crawl: Crawl, tmp_path: Path) -> None:
    refined(tmp_path / "out", crawl())
    counts = merged(Corpus.open(tmp_path / "out").plan)["counts"]
    assert sum(values[0] for reasons in counts.values() for values in reasons.values()) == 30
    assert counts["kept"]["kept"][0] == 12


def test_addresses_of_people_are_replaced(crawl: Crawl, tmp_path: Path) -> None:
    refined(tmp_path / "out", crawl())
    texts = [each.text for each in Corpus.open(tmp_path / "out").documents() if each.url.endswith("/mail")]
    assert len(texts) == 2
    for text in texts:
        assert "somebody" not in text
        assert "8.8.8.8" not in text
        assert "Write to " in text


def test_a_new_threshold_measures_nothing_again(crawl: Crawl, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inputs = crawl()
    assert refined(out, inputs).done["annotate"] == 1
    outcome = refined(out, inputs, quality__min_words=3)
    assert outcome.done["annotate"] == 0
    assert outcome.done["select"] == 1
    assert fates(out)["http://other.example/0/short"] != "gopher_short_doc"
    assert refined(out, inputs, quality__min_words=3).done == dict.fromkeys(outcome.done, 0)


def test_another_extractor_measures_everything_again(crawl: Crawl, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inputs = crawl()
    refined(out, inputs)
    assert refined(out, inputs, language__characters=500).done["annotate"] == 1


def test_a_file_that_changed_is_read_again(crawl: Crawl, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inputs = crawl()
    refined(out, inputs)
    data = inputs[0].read_bytes()
    inputs[0].write_bytes(data + gzip.compress(b"", mtime=0))
    assert refined(out, inputs).done["annotate"] == 1


def test_what_was_made_of_inputs_that_are_gone_goes_too(crawl: Crawl, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inputs = crawl()
    refined(out, inputs)
    refined(out, inputs[:1])
    (path,) = out.glob("kept/*.parquet")
    assert sum(table.num_rows for table in stored(path)) == len(list(Corpus.open(out).documents())) == 6


def test_two_runs_do_not_write_into_the_same_folder(crawl: Crawl, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with RunLock(out), pytest.raises(SurroundingsError, match="this corpus is being made"):
        refined(out, crawl())


def test_a_damaged_result_is_made_again(crawl: Crawl, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inputs = crawl()
    refined(out, inputs)
    before = bytes_of(out)
    (path,) = out.glob("kept/*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert refined(out, inputs).done == {
        "annotate": 0,
        "select": 0,
        "sign": 0,
        "match": 0,
        "cluster": 0,
        "finish": 1,
    }
    assert bytes_of(out) == before


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], dict[str, str]]:
    """Twelve archives of which each is a unit of its own, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("twelve")
    inputs = []
    for number in range(4):
        chance = random.Random(number)
        noise = bytes(
            chance.randrange(256) for _ in range(600_000)
        )  # so that files are large, and units several
        heavy = record(f"http://noise.example/{number}", noise, content_type="application/octet-stream")
        inputs.append(archive(folder / "crawl" / f"{number}.warc.gz", [*records(50 * number, 3), heavy]))
    refined(folder / "out", inputs)
    assert len(list((folder / "out" / "kept").iterdir())) > 1
    return inputs, bytes_of(folder / "out")


def test_two_processes_make_the_same(twelve: tuple[list[Path], dict[str, str]], tmp_path: Path) -> None:
    inputs, expected = twelve
    refined(tmp_path / "out", inputs, processes=2)
    assert bytes_of(tmp_path / "out") == expected


def test_the_order_of_files_does_not_matter_nor_where_they_lie(
    twelve: tuple[list[Path], dict[str, str]], tmp_path: Path
) -> None:
    inputs, expected = twelve
    moved = [Path(shutil.copy(path, tmp_path / path.name)) for path in reversed(inputs)]
    refined(tmp_path / "out", moved)
    assert bytes_of(tmp_path / "out") == expected


def test_datatroves_local_executor_makes_the_same(
    twelve: tuple[list[Path], dict[str, str]], tmp_path: Path
) -> None:
    pytest.importorskip("datatrove", reason="the engines are of the extra [cluster]")
    inputs, expected = twelve
    plan = make(resolve("fineweb-fast").config, inputs, tmp_path / "out", quiet)
    keep(plan)
    script = (
        "import sys; from pathlib import Path\n"
        "from primer.corpus.refine import engine, plan\n"
        "if __name__ == '__main__': engine.launch(plan.open_plan(Path(sys.argv[1])), 'local', 2)\n"
    )
    (tmp_path / "launch.py").write_text(script)
    subprocess.run(
        [sys.executable, str(tmp_path / "launch.py"), str(plan.out)],
        check=True,
        capture_output=True,
        timeout=250,
    )
    assert bytes_of(plan.out) == expected


@pytest.mark.parametrize("seconds", [0.8, 1.6, 2.4, 3.2])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    twelve: tuple[list[Path], dict[str, str]], tmp_path: Path, seconds: float
) -> None:
    inputs, expected = twelve
    keep(make(resolve("fineweb-fast").config, inputs, tmp_path / "out", quiet))
    script = (
        "import sys; from pathlib import Path\n"
        "from primer.corpus.refine.plan import open_plan\n"
        "from primer.corpus.refine.run import run\n"
        "run(open_plan(Path(sys.argv[1])), 1)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "out")],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    refined(tmp_path / "out", inputs)
    assert bytes_of(tmp_path / "out") == expected
    assert not list((tmp_path / "out").rglob("*.tmp-*"))
