"""How fast a training step is: `python benchmarks/step.py [--rounds 15] [--save]`.

The lecture's model and batch (64 × 256 characters), by the lecture's script as it is and by recipe `lecture`, with its
dropout of 0.2 and without. First both must compute the same loss and gradients. Then three processes take a step in
turns, so that whatever else the machine does hits all of them: a ratio is the median over rounds of neighbouring steps.
Needs $PRIMER_REFERENCE and $PRIMER_DATA. Goals: ≥ 1.5 × the script with dropout, ≥ 1.4 × without, at ≥ 85 % of the
machine's matmul rate; fetching batches < 1 % of a step; peak memory ≤ the script's.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.nn import functional as F

from baseline import classes, script
from primer import device as devices
from primer.models.count import flops_per_token
from primer.models.gpt import GPT
from primer.models.lecture import to_gpt
from primer.recipes.build import build_model, build_trainer
from primer.recipes.measure import choose_micro_batch, with_train
from primer.recipes.resolve import resolve
from primer.recipes.run import complete
from primer.recipes.text import prepare_data
from primer.training.distributed import World
from receipt import write

HERE = Path(__file__).parent
OURS = {"primer, dropout 0.2": 0.2, "primer, no dropout": 0.0}
MEASURED = ("src/primer", "benchmarks/step.py", "benchmarks/script_steps.py")


def check() -> None:
    """The same weights give the same loss and the same gradients, in float64 and without dropout."""
    torch.manual_seed(1)
    theirs = classes(dropout=0.0).GPTLanguageModel().double()
    config, weights = to_gpt(theirs.state_dict())
    ours = GPT(config).double()
    ours.load_state_dict(weights)
    tokens = torch.randint(65, (2, 257), generator=torch.Generator().manual_seed(2))
    _, loss = theirs(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    mine = F.cross_entropy(ours.eval()(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert abs(float(loss) - float(mine)) < 1e-10, "another loss"
    loss.backward()
    mine.backward()
    expected = to_gpt({name: p.grad for name, p in theirs.named_parameters()})[1]
    for name, p in ours.named_parameters():
        assert (p.grad - expected[name]).abs().max() < 1e-10, f"another gradient of {name}"


def our_steps(dropout: float, steps: int, micro_batch: int) -> None:
    """Steps of recipe `lecture`, one for each line on the standard input, and what went into them."""
    devices.reuse_memory()
    flags = {
        "model.pattern_dropout": dropout,
        "model.feed_forward_dropout": dropout,
        "train.micro_batch": micro_batch,
    }
    config = resolve("lecture", flags=flags).config
    shards = prepare_data(config, World())
    config = complete(config, shards, torch.device("cpu"))
    model = build_model(config, shards, torch.device("cpu"))
    config = with_train(config, micro_batch=choose_micro_batch(config, model, World()))
    trainer = build_trainer(config, model, shards, World())
    for _ in range(steps):
        if not sys.stdin.readline():  # nobody asks any more
            return
        started = time.perf_counter()
        trainer.step()
        seconds = time.perf_counter() - started
        rate = devices.matmul_rate(torch.device("cpu"))  # beside the step: it changes with whatever else runs
        print(json.dumps({"seconds": seconds, "matmul_rate": rate}), flush=True)
    started = time.perf_counter()
    for _ in range(20):
        trainer.stream.next()
    found = {
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "fetch_seconds": (time.perf_counter() - started) / 20,
        "micro_batch": config.train.micro_batch,
        "flops": flops_per_token(config.model) * config.train.batch_size * config.model.context_length,
    }
    print(json.dumps(found), flush=True)


class Contestant:
    """A process that takes a step whenever it is asked to."""

    def __init__(self, name: str, steps: int, micro_batch: int, folder: Path) -> None:
        command = [str(HERE / "script_steps.py"), str(steps), "--wait"]
        environment = dict(os.environ)
        if name in OURS:
            what = {"--only": OURS[name], "--rounds": steps, "--micro-batch": micro_batch}
            command = [str(HERE / "step.py"), *(str(word) for option in what.items() for word in option)]
            environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}  # as `primer` does
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.steps: list[dict[str, Any]] = []
        self.found: dict[str, Any] = {}

    def step(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.steps.append(self.answer())

    def finish(self) -> None:
        self.found = self.answer()
        self.process.wait()

    def answer(self) -> dict[str, Any]:
        """The next JSON object that it prints; the script prints more than those."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(f"{self.process.args} ended early")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=15, help="steps of each, one not counted before them (default 15)"
    )
    parser.add_argument(
        "--micro-batch", type=int, default=0, help="sequences at once (default: chosen by measuring)"
    )
    parser.add_argument("--only", type=float, help=argparse.SUPPRESS)
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results/step.json"
    )
    options = parser.parse_args()
    if options.only is not None:
        our_steps(options.only, options.rounds, options.micro_batch)
        return
    check()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(Path(os.environ["PRIMER_DATA"]) / "shakespeare" / "input.txt", folder)
        os.environ["PRIMER_REFERENCE"] = str(script().resolve().parent)
        os.environ["PRIMER_DATA"] = str(Path(os.environ["PRIMER_DATA"]).resolve())
        contestants: dict[str, Contestant] = {}
        for name in ("script", *OURS):  # each is ready, its micro-batch chosen, before the next one starts
            contestants[name] = Contestant(name, options.rounds + 1, options.micro_batch, Path(folder))
            contestants[name].step()
        for _ in track(range(options.rounds), description="rounds"):
            for each in contestants.values():
                each.step()
        for each in contestants.values():
            each.finish()
    report(contestants, options.save)


def report(contestants: dict[str, Contestant], save: bool) -> None:
    """Medians over rounds; ratios within each round."""
    counted = {name: each.steps[1:] for name, each in contestants.items()}
    step = {name: [each["seconds"] for each in steps] for name, steps in counted.items()}
    table = Table(
        "trainer", "tokens/s", "× script", "of matmul rate", "fetching", "peak memory", "micro-batch"
    )
    figures: dict[str, Any] = {}
    for name, each in contestants.items():
        ratios = [a / b for a, b in zip(step["script"], step[name], strict=True)]
        figures[name] = {
            "seconds_per_step": [round(seconds, 3) for seconds in step[name]],
            "tokens_per_second": round(64 * 256 / statistics.median(step[name])),
            "times_the_script": round(statistics.median(ratios), 3),
            "quartiles_of_it": [round(q, 3) for q in statistics.quantiles(ratios, n=4)],
            "peak_megabytes": round(each.found["peak_bytes"] / 1e6),
        }
        if name in OURS:
            rates = [one["matmul_rate"] for one in counted[name]]
            share = [each.found["flops"] / s / rate for s, rate in zip(step[name], rates, strict=True)]
            figures[name] |= {
                "share_of_matmul_rate": round(statistics.median(share), 3),
                "share_spent_fetching": round(each.found["fetch_seconds"] / min(step[name]), 5),
                "micro_batch": each.found["micro_batch"],
                "matmul_gflops": [round(rate / 1e9, 1) for rate in rates],
            }
        shown = figures[name]
        table.add_row(
            name,
            str(shown["tokens_per_second"]),
            f"{shown['times_the_script']:.2f}",
            f"{shown['share_of_matmul_rate']:.0%}" if name in OURS else "",
            f"{shown['share_spent_fetching']:.2%}" if name in OURS else "",
            f"{shown['peak_megabytes']} MB",
            str(shown.get("micro_batch", "")),
        )
    Console().print(table)
    if save:
        print(write("step", figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
