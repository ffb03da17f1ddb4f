"""How fast a training step is: `python benchmarks/step.py [--rounds 3] [--save]`.

The lecture's model and batch (64 × 256 characters), by the lecture's script as it is and by recipe `lecture`, with its
dropout of 0.2 and without. First both must compute the same loss and gradients. Then they take turns, each in a
process of its own, so that whatever else the machine does hits all of them.
Needs $PRIMER_REFERENCE and $PRIMER_DATA. Goals: ≥ 1.2 × the script with dropout, ≥ 1.4 × without, then at ≥ 85 % of the
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


def our_steps(dropout: float, steps: int, micro_batch: int) -> dict[str, Any]:
    """Seconds of each step of recipe `lecture`, and what went into them; run in a process of its own."""
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
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        trainer.step()
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    for _ in range(20):
        trainer.stream.next()
    fetching = (time.perf_counter() - started) / 20
    return {
        "seconds": seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "fetch_seconds": fetching,
        "micro_batch": config.train.micro_batch,
        "flops": flops_per_token(config.model) * config.train.batch_size * config.model.context_length,
        "matmul_rate": devices.matmul_rate(torch.device("cpu")),
    }


def turn(name: str, steps: int, micro_batch: int, folder: Path) -> dict[str, Any]:
    """One contestant, in a fresh process."""
    command = [str(HERE / "script_steps.py"), str(steps)]
    if name in OURS:
        command = [
            str(HERE / "step.py"), "--only", str(OURS[name]), "--steps", str(steps), "--micro-batch", str(micro_batch)
        ]  # fmt: skip
    environment = {
        **({"OMP_WAIT_POLICY": "PASSIVE"} if name in OURS else {}),
        **os.environ,
    }  # as `primer` does
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns that each takes (default 3)")
    parser.add_argument(
        "--steps", type=int, default=3, help="steps a turn, the first not counted (default 3)"
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
        print(json.dumps(our_steps(options.only, options.steps, options.micro_batch)))
        return
    check()
    turns: dict[str, list[dict[str, Any]]] = {"script": [], **{name: [] for name in OURS}}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(Path(os.environ["PRIMER_DATA"]) / "shakespeare" / "input.txt", folder)
        os.environ["PRIMER_REFERENCE"] = str(script().resolve().parent)
        os.environ["PRIMER_DATA"] = str(Path(os.environ["PRIMER_DATA"]).resolve())
        for _ in range(options.rounds):
            for name in turns:
                turns[name].append(turn(name, options.steps, options.micro_batch, Path(folder)))
    report(turns, options.save)


def report(turns: dict[str, list[dict[str, Any]]], save: bool) -> None:
    """Medians over rounds; ratios within each round."""
    step = {name: [min(each["seconds"][1:]) for each in rounds] for name, rounds in turns.items()}
    table = Table(
        "trainer", "tokens/s", "× script", "of matmul rate", "fetching", "peak memory", "micro-batch"
    )
    figures: dict[str, Any] = {}
    for name, rounds in turns.items():
        ratio = statistics.median(a / b for a, b in zip(step["script"], step[name], strict=True))
        figures[name] = {
            "seconds_per_step": [round(seconds, 3) for seconds in step[name]],
            "tokens_per_second": round(64 * 256 / statistics.median(step[name])),
            "times_the_script": round(ratio, 3),
            "peak_megabytes": round(max(each["peak_bytes"] for each in rounds) / 1e6),
        }
        if name in OURS:
            share = [r["flops"] / s / r["matmul_rate"] for r, s in zip(rounds, step[name], strict=True)]
            fetching = [r["fetch_seconds"] / s for r, s in zip(rounds, step[name], strict=True)]
            figures[name] |= {
                "share_of_matmul_rate": round(statistics.median(share), 3),
                "share_spent_fetching": round(max(fetching), 5),
                "micro_batch": [each["micro_batch"] for each in rounds],
                "matmul_gflops": [round(each["matmul_rate"] / 1e9, 1) for each in rounds],
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
