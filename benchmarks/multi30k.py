"""How well the encoder–decoder translates, and after how many minutes: `python benchmarks/multi30k.py [--save]`.

Trains recipe `multi30k` (English → German, 29,000 captions) on this machine, keeping every checkpoint; a run that was
stopped is gone on with (`--run`). Then the test set of 2016 (1,000 captions) is translated with a beam of 4 by what
each checkpoint would have been as the last one: the mean of the newest five. Minutes are those of training steps,
without evaluations and checkpoints. BLEU is sacrebleu's, of the text as it is written; its signature stands beside it.
Goals: 34 within 60 minutes, 36 within 150.

`--picture FILE` draws where the decoder looks while it translates a sentence of ours.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import primer
from primer.cli.plots import attention
from primer.recipes.config import as_translation
from primer.recipes.loaded import Run
from primer.recipes.pair_scores import score_pairs_of
from primer.recipes.weights import mean_of_checkpoints, put_weights
from primer.training import checkpoint
from receipt import write

MEASURED = ("src/primer", "benchmarks/multi30k.py")
SENTENCE = "A young woman with a red umbrella is waiting for the bus."
KEEP = {"train.keep": 10_000}


def trained(options: argparse.Namespace) -> Run:
    """The run, trained to its end."""
    flags: dict[str, Any] = dict(pair.split("=", 1) for pair in options.flag)
    flags = {name: number(value) for name, value in flags.items()} | KEEP
    if options.run is None:
        return primer.train(options.recipe, flags=flags, runs_dir=options.runs_dir)
    found = primer.load(options.run, runs_dir=options.runs_dir)
    if found.directory.read_facts()["status"] == "finished":
        return found
    return primer.resume(found, runs_dir=options.runs_dir)


def number(text: str) -> Any:
    """A flag's value as the number that it is."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def curve(run: Run, every: int) -> list[dict[str, Any]]:
    """BLEU on the test set for each `every`-th checkpoint, as if it had been the last one."""
    config = as_translation(run.config)
    seconds = {row["step"]: row["seconds"] for row in run.metrics() if "loss" in row}
    losses = {row["step"]: row for row in run.metrics() if "val_loss" in row}
    steps = [checkpoint.step_of(path) for path in checkpoint.every(run.directory.checkpoints)]
    last, apart = max(steps), every * config.train.checkpoint_every
    points = []
    for step in sorted({step for step in steps if step and step % apart == 0} | {last}):
        weights, where = mean_of_checkpoints(config, run.directory, until=step)
        put_weights(run.model, weights, where)
        found = score_pairs_of(run, "test", resamples=1000 if step == last else 0)
        points.append(
            {
                "minutes": round(seconds[step] / 60, 1),
                "step": step,
                "bleu": round(found["bleu"], 2),
                "interval": [round(found[name], 2) for name in ("bleu_low", "bleu_high") if found[name]],
                "chrf": round(found["chrf"], 2),
                "test_loss": round(found["loss"], 4),
                "word_perplexity": round(found["word_perplexity"], 2),
                "greedy_validation_bleu": round(losses.get(step, {}).get("val_bleu", 0.0), 2) or None,
                "signature": found["signature"],
            }
        )
        print(points[-1], file=sys.stderr, flush=True)
    return points


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="multi30k")
    parser.add_argument("--flag", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--run", help="a run that was begun, to go on with or to score")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--every", type=int, default=4, help="score each so-manieth checkpoint")
    parser.add_argument("--picture", type=Path, help="draw the attention of one translation into this file")
    parser.add_argument("--name", default="multi30k", help="of the receipt")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    torch.set_num_threads(2)
    run = trained(options)
    points = curve(run, options.every)
    table = Table("minutes", "step", "BLEU", "chrF", "test loss")
    for point in points:
        table.add_row(
            f"{point['minutes']:.1f}",
            f"{point['step']:,}",
            f"{point['bleu']:.2f}",
            f"{point['chrf']:.2f}",
            f"{point['test_loss']:.4f}",
        )
    Console().print(table)
    looked = primer.load(run).look(SENTENCE)
    if options.picture:
        attention(looked, options.picture)
    facts = run.directory.read_facts()
    figures = {
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "seed": run.config.seed,
        "resumed_after": facts.get("resumed", []),
        "trained_on": facts["hardware"],
        "signature": points[-1]["signature"],
        "minutes_to": {
            str(goal): next((point["minutes"] for point in points if point["bleu"] >= goal), None)
            for goal in (30, 34, 36, 38)
        },
        "a_translation": {"source": SENTENCE, "translation": looked.text},
        "curve": points,
    }
    if options.save:
        print(write(options.name, figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
