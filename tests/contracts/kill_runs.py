"""Started by test_resume.py: forks trainings from one process that has torch loaded, and kills them.

argv: a folder, a text file, the number of kills, a seed. Prints one JSON object: the hashes of the run that was never
stopped, and of each that was killed and resumed. Forking needs a single thread, so this is a process of its own.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import sacrebleu  # noqa: F401 - once here, and not in every child that scores translations
import torch

from primer import device
from primer.recipes.directory import RunDirectory, find
from primer.recipes.run import resume, train
from primer.training import checkpoint

device.matmul_rate = lambda *_: 1e10  # measuring takes as long as these trainings

STEPS = 24
"""With eight checkpoints, four evaluations and two samples to be killed in, and between."""

FLAGS = {
    "model.d_model": 16,
    "model.n_layers": 2,
    "model.n_heads": 2,
    "model.context_length": 32,
    "model.ngram.orders": (2,),
    "model.ngram.rows": 64,
    "model.ngram.dropout": 0.2,
    "model.pattern_dropout": 0.1,
    "model.feed_forward_dropout": 0.1,
    "optim.name": "muon",
    "train.weight_average": 0.9,
    "train.steps": STEPS,
    "train.batch_size": 8,
    "train.micro_batch": 4,
    "train.short_context": 16,
    "train.short_until": 0.5,
    "train.checkpoint_every": 3,
    "train.evaluate_every": 6,
    "train.sample_every": 12,
    "train.keep": 2,
    "train.threads": 1,
    "train.device": "cpu",
    "schedule.warmup": 5,
    "sample.tokens": 10,
    "sample.prompt": "one",
}


PAIRS = {
    "model.d_model": 16,
    "model.n_layers": 1,
    "model.n_heads": 2,
    "model.d_ff": 32,
    "model.context_length": 32,
    "model.dropout": 0.1,
    "model.pattern_dropout": 0.1,
    "data.vocab_size": 257,
    "optim.name": "muon",
    "train.weight_average": 0.9,
    "train.steps": STEPS,
    "train.batch_tokens": 120,
    "train.micro_tokens": 60,
    "train.checkpoint_every": 3,
    "train.evaluate_every": 6,
    "train.evaluate_pairs": 4,
    "train.sample_every": 12,
    "train.keep": 3,
    "train.threads": 1,
    "train.device": "cpu",
    "schedule.warmup": 5,
    "translate.checkpoints": 3,
    "translate.extra_length": 4,
}


def begin(text: Path, runs: Path) -> None:
    """A training on a text, or on a .tsv file of pairs."""
    if text.suffix == ".tsv":
        train("translation", flags={**PAIRS, "data.source": str(text)}, runs_dir=runs)
    else:
        train(text, flags=FLAGS, runs_dir=runs)


def fork(work) -> int:
    """Run `work` in a child; returns its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return child


def exit_code(child: int) -> int:
    """Wait for a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for(runs: Path, rows: int) -> None:
    """Until a run has its first checkpoint (then there is something to lose) and so many rows of metrics."""
    while not list(runs.glob("*/checkpoints/latest")):
        time.sleep(0.004)  # looking takes from the training what it would need to get there
    metrics = find("latest", runs).metrics
    while len(metrics.rows()) < rows:
        time.sleep(0.004)


def fingerprint(run: RunDirectory) -> dict[str, str]:
    """Hashes of everything that must not depend on having been stopped."""
    last = checkpoint.load(checkpoint.follow(run.checkpoints, "latest"))
    tensors = hashlib.sha256()
    for part in (last.model, last.optim):
        for name in sorted(part):
            tensors.update(name.encode() + part[name].numpy().tobytes())
    kept = ("step", "tokens", "loss", "grad_norm", "val_loss")
    rows = [{key: row[key] for key in kept if key in row} for row in run.metrics.rows()]
    state = {key: value for key, value in last.state.items() if key != "progress"}
    return {
        "weights and optimizer": tensors.hexdigest(),
        "losses": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        "generators and stream": hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest(),
        "samples": hashlib.sha256(json.dumps(run.samples.rows()).encode()).hexdigest(),
        "step": str(last.state["step"]),
        "left over": str(sorted(path.name for path in run.checkpoints.glob("*.tmp-*"))),
    }


def main(folder: Path, text: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    chance = random.Random(seed)
    assert exit_code(fork(lambda: begin(text, folder / "whole"))) == 0
    results = {"whole": fingerprint(find("latest", folder / "whole")), "killed": []}
    for number in range(kills):
        runs = folder / f"killed-{number}"
        child = fork(lambda runs=runs: begin(text, runs))
        wait_for(runs, rows=int((number + chance.random()) / kills * (STEPS - 1)))  # all over the run
        time.sleep(chance.uniform(0, 0.05))  # about a step, a save, a sample
        os.kill(child, signal.SIGKILL)
        died = exit_code(child)
        run = find("latest", runs)
        reached = max((row["step"] for row in run.metrics.rows()), default=0)
        if died != 0:
            assert exit_code(fork(lambda runs=runs: resume("latest", runs_dir=runs))) == 0
        results["killed"].append({"after step": reached, "exit": died, **fingerprint(run)})
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
