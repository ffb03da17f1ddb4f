"""How fast a model writes: `python benchmarks/sampling.py [--rounds 3] [--save]`, with $PRIMER_REFERENCE
set.

The lecture's model and weights, once with the script's own `generate` and once with ours, over positions
128 to 255 of its context of 256. First both must write the same ids; then they take turns, so that
whatever else the machine does hits both. Goal: ≥ 5 ×.
"""

import argparse
import os
import statistics

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from baseline import SIZES, classes
from primer.generation.decode import generate
from primer.models.gpt import GPT
from primer.models.lecture import to_gpt
from receipt import take_turns, write

START, TOKENS = 128, 128
MEASURED = (
    "src/primer/generation",
    "src/primer/models",
    "src/primer/nn",
    "src/primer/kernels",
    "benchmarks/sampling.py",
)


def models() -> tuple[nn.Module, GPT]:
    """The script's model with random weights, and ours with the same."""
    torch.manual_seed(1337)
    theirs = classes().GPTLanguageModel()
    config, weights = to_gpt(theirs.state_dict())
    ours = GPT(config)
    ours.load_state_dict(weights)
    return theirs, ours


def check(theirs: nn.Module, ours: GPT, prompt: Tensor) -> None:
    """In float64 and without dropout both write the same ids, whether keys and values are kept or not."""
    theirs, ours = theirs.double().eval(), ours.double()
    torch.manual_seed(7)
    expected = theirs.generate(prompt, TOKENS)[:, START:]
    for use_cache in (True, False):
        generator = torch.Generator().manual_seed(7)
        ids = list(generate(ours, prompt, max_tokens=TOKENS, generator=generator, use_cache=use_cache))
        assert torch.equal(torch.stack(ids, dim=1), expected), f"other ids, use_cache={use_cache}"
    theirs.float(), ours.float()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns that each takes (default 3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: all)")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    theirs, ours = models()
    prompt = torch.randint(SIZES["vocab_size"], (1, START), generator=torch.Generator().manual_seed(1))
    check(theirs, ours, prompt)

    def as_the_script_does() -> (
        None
    ):  # with dropout, and recording a graph for a backward pass that never comes
        theirs.train()
        theirs.generate(prompt, TOKENS)

    def at_its_best() -> None:
        theirs.eval()
        with torch.no_grad():
            theirs.generate(prompt, TOKENS)

    seconds = take_turns(
        {
            "script": as_the_script_does,
            "script, eval and no_grad": at_its_best,
            "primer": lambda: list(generate(ours, prompt, max_tokens=TOKENS)),
            "primer, no cache": lambda: list(generate(ours, prompt, max_tokens=TOKENS, use_cache=False)),
        },
        options.rounds,
    )
    table = Table("writer", "tokens/s", "times the script", title=f"{options.threads} thread(s)")
    figures: dict[str, object] = {"positions": [START, START + TOKENS - 1], "rounds": options.rounds}
    for name, times in seconds.items():
        rate = TOKENS / statistics.median(times)
        ratio = statistics.median(a / b for a, b in zip(seconds["script"], times, strict=True))
        figures[name] = {"tokens_per_second": round(rate, 1), "times_the_script": round(ratio, 2)}
        table.add_row(name, f"{rate:.1f}", f"{ratio:.2f}")
    Console().print(table)
    if options.save:
        name = "sampling" if options.threads == os.cpu_count() else f"sampling-{options.threads}-thread"
        print(write(name, figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
