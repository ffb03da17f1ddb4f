"""Pictures of what was measured, from the receipts: `python benchmarks/pictures.py` draws docs/pictures anew."""

from pathlib import Path

from matplotlib.figure import Figure

from readme import figures

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
RUNS = {"multi30k-long": "multi30k with train.steps=20000"}
GOALS = ((60, 34), (150, 36))


def translation_curve(file: Path) -> None:
    """BLEU on Multi30k's test set against minutes of training, a line a run."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="minutes of training on two cores", ylabel="BLEU, test_2016_flickr, beam 4"
    )
    for name, label in RUNS.items():
        points = [(point["minutes"], point["bleu"]) for point in figures(name)["curve"]]
        axes.plot(*zip(*points, strict=True), marker="o", ms=4, label=label)
    for minutes, bleu in GOALS:
        axes.plot(minutes, bleu, "k+", ms=12)
        axes.annotate(
            f"{bleu} within {minutes} minutes", (minutes, bleu), xytext=(0, -14), textcoords="offset points"
        )
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file)


if __name__ == "__main__":
    translation_curve(PICTURES / "multi30k-curve.svg")
