"""`primer corpus classifier`: a judge of quality, trained on labels of your own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from primer.assets import require_free
from primer.cli.flags import Verb, parse, required, show_help
from primer.cli.table import table


@dataclass(frozen=True)
class ClassifierOptions:
    """Of the command."""

    out: str = "classifier.bin"
    """The file to write."""
    epochs: int = 25
    """How often each example is seen."""
    lr: float = 0.5
    """Of the first step; it falls to 0."""
    seed: int = 0
    """Of the first weights and the order of examples."""
    json: bool = False
    """Print one JSON object."""


CLASSIFIER = Verb(
    "corpus classifier",
    "LABELS",
    'Train a fastText classifier on labelled texts: lines like {"text": "…", "label": "good"}, or a folder with a '
    "folder of texts for each label. A fifth is held out, and says with an interval how often it is right. Then: "
    "primer corpus run fineweb-edu-like … --classifier.model=FILE.",
    (
        "primer corpus classifier labels.jsonl --out=good.bin",
        "primer corpus classifier good=essays,bad=spam --epochs=50",
        "primer corpus classifier labels/ --json",
    ),
    ClassifierOptions,
)


def classifier(argv: Sequence[str]) -> int:
    """Train, test, write, print."""
    arguments = parse(CLASSIFIER, argv)
    if arguments.help:
        show_help(CLASSIFIER)
        return 0
    labels, options = required(arguments, CLASSIFIER, "labels"), arguments.options
    require_free(Path(options.out), "another --out")

    from primer.corpus.text.classifier import train
    from primer.corpus.text.classifier_labels import read_labels

    out = Path(options.out)
    found = train(read_labels(labels), out, epochs=options.epochs, lr=options.lr, seed=options.seed)
    if options.json:
        print(json.dumps({**asdict(found), "path": str(found.path)}, ensure_ascii=False))
        return 0
    right = found.accuracy
    print(
        f"right on {right.value:.1%} ({right.low:.1%} … {right.high:.1%}) of {found.held_out} that it has not seen"
    )
    rows: list[tuple[str, ...]] = [("label", "examples", "precision", "recall")]
    for name, score in found.labels.items():
        shares = ("" if each is None else f"{each:.2f}" for each in (score.precision, score.recall))
        rows.append((name, f"{score.examples:,}", *shares))
    print(table(rows, right={1, 2, 3}))
    if found.warning:
        print(found.warning)
    print(f"written to {found.path}")
    return 0
