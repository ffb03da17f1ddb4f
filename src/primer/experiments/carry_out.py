"""Carries an experiment out: every trial becomes a run, or is found again among those that are there.

Runs are ordinary ones, in `why-<name>` below where runs are kept. Nothing else is remembered, so whatever stopped an
experiment, the same call goes on with it: what has finished or diverged is not trained again, and what was stopped is
resumed.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from primer.config import to_dict
from primer.errors import DivergedError, PrimerError, StoppedError
from primer.experiments.experiment import Experiment
from primer.experiments.trial import Trial
from primer.experiments.verdict import Findings, Outcome, Row
from primer.models import count
from primer.recipes.config import AnyConfig
from primer.recipes.directory import RunDirectory, every
from primer.recipes.kinds import kind_of
from primer.recipes.loaded import Run
from primer.recipes.plan import vocabulary, with_vocabulary
from primer.recipes.report import Reporter, Silence
from primer.recipes.run import resume, train
from primer.training import checkpoint
from primer.training.distributed import World


def carry_out(
    experiment: Experiment,
    trials: Sequence[Trial],
    *,
    runs_dir: str | Path = "runs",
    reporter: Reporter | None = None,
    only_look: bool = False,
) -> Findings:
    """Train what is missing, measure what is not measured yet, and say what was found.

    only_look: train nothing; the findings are those of the runs that have ended by now. Raises `StoppedError` with
    Ctrl-C, after saving, and whatever else ends a run, but for its divergence: that is a finding.
    """
    bench = Bench(experiment, Path(runs_dir), reporter or Silence())
    outcomes: list[Outcome] = []
    try:
        found = bench.find(trials)
        if there := sum(run is not None and ended(run) is not None for run in found):
            bench.reporter.on_message(f"{there} of {len(trials)} runs are there already")
        for trial, run in zip(trials, found, strict=True):
            if not only_look and (run is None or ended(run) is None):
                run = bench.trained(trial, run, place(trial, trials))
            outcomes.append(bench.outcome(trial, run))
    except (KeyboardInterrupt, StoppedError) as error:
        raise stopped(error, bench.folder, f"{len(outcomes)} of {len(trials)} runs") from error
    return findings(experiment, trials, outcomes)


class Bench:
    """Where the runs of one experiment are made and kept."""

    def __init__(self, experiment: Experiment, runs_dir: Path, reporter: Reporter) -> None:
        self.experiment, self.reporter = experiment, reporter
        self.folder = runs_dir / f"why-{experiment.name}"
        self._fingerprints: dict[str, str] = {}

    def find(self, trials: Sequence[Trial]) -> list[RunDirectory | None]:
        """For each trial the run that was made of its choices and of the text as it is now.

        One that has ended, else the newest that has something to go on from.
        """
        there = [(run, config) for run in every(self.folder) if (config := read(run)) is not None]
        found = []
        for trial in trials:
            made = [run for run, config in there if trial.made(config) and self._of_this_text(run, trial)]
            ends = [run for run in made if ended(run)]
            begun = [run for run in made if checkpoint.newest(run.checkpoints)] if not ends else []
            found.append(next(reversed([*begun, *ends]), None))
        return found

    def _of_this_text(self, run: RunDirectory, trial: Trial) -> bool:
        return bool(run.read_facts()["data"]["fingerprint"] == self._fingerprint(trial.config))

    def _fingerprint(self, config: AnyConfig) -> str:
        """Of the config's text, which is prepared if need be."""
        key = str(to_dict(config.data))
        if key not in self._fingerprints:
            data = kind_of(config).prepare(config, World(), None, self.reporter.on_message)
            self._fingerprints[key] = data.fingerprint
        return self._fingerprints[key]

    def trained(self, trial: Trial, run: RunDirectory | None, where: str) -> RunDirectory:
        """The run of a trial, at its end: `run` where there is one to go on with."""
        where = f"{where}, {trial.variant.name}"
        self.reporter.on_message(f"{where}: going on with {run.path.name}" if run else where)
        report = OneOfMany.of(self.reporter)
        try:
            if run:
                return resume(run.path, reporter=report).directory
            recipe = self.experiment.recipe
            return train(recipe, flags=trial.flags, runs_dir=self.folder, reporter=report).directory
        except DivergedError as error:
            self.reporter.on_message(f"{where}: {error.cause}")
            (found,) = self.find([trial])
            assert found is not None, "a run that has diverged is there"
            return found

    def outcome(self, trial: Trial, run: RunDirectory | None) -> Outcome:
        """What became of a trial. A run is measured, where it was not; one without a finite value has diverged."""
        status = ended(run) if run else None
        if run is None or status is None:
            return Outcome(trial.seed, "missing")
        train = run.read_config().train
        computed = f"{train.device} in {train.precision}"
        values = self.measured(trial, run) if status == "finished" else {}
        if not values or not all(map(math.isfinite, values.values())):
            return Outcome(trial.seed, "diverged", str(run.path), computed=computed)
        return Outcome(trial.seed, "finished", str(run.path), values, computed)

    def measured(self, trial: Trial, run: RunDirectory) -> dict[str, float]:
        """The values of a run. Those that are finite are kept in its run.json, so that they are measured once."""
        known: dict[str, float] = run.read_facts().get("measured", {})
        new = [measure for measure in self.experiment.measures if measure.name not in known]
        if new:
            loaded = Run(run)
            known |= {measure.name: measure.of(loaded, self._tell) for measure in new}
            run.update_facts(measured={name: value for name, value in known.items() if math.isfinite(value)})
            said = ", ".join(f"{measure.name} {known[measure.name]:.4g}" for measure in new)
            self.reporter.on_message(f"{trial.variant.name}, seed {trial.seed}: {said}")
        return {measure.name: known[measure.name] for measure in self.experiment.measures}

    def _tell(self, done: int, total: int) -> None:
        self.reporter.on_part("measuring", done, total)


class OneOfMany:
    """What a reporter hears of a run that is one of many: not what could be done with it now."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    @classmethod
    def of(cls, reporter: Reporter) -> Reporter:
        """The reporter as it is spoken to by such a run."""
        return reporter if isinstance(reporter, Silence) else cls(reporter)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reporter, name)

    def on_end(self, info: object) -> None:
        """Nothing: what it has come to is told when it is measured."""


def read(run: RunDirectory) -> AnyConfig | None:
    """A run's config; None where it, or what the run says of its text, cannot be read."""
    try:
        run.read_facts()
        return run.read_config()
    except PrimerError:
        return None


def ended(run: RunDirectory) -> str | None:
    """ "finished" or "diverged"; None for a run that has something left to do."""
    status = run.read_facts()["status"]
    if status in ("finished", "diverged"):
        return str(status)
    # One that was killed behind its last checkpoint, before it could say so, has nothing left to do either.
    steps = run.read_config().train.steps
    scored = any("val_loss" in row and row["step"] >= steps for row in run.metrics.rows())
    saved = checkpoint.newest(run.checkpoints) if scored else None
    return "finished" if saved and checkpoint.step_of(saved) >= steps else None


def place(trial: Trial, trials: Sequence[Trial]) -> str:
    """variant 3 of 17, seed 1 of 3; the base is the first of the variants."""
    names = list(dict.fromkeys(each.variant.name for each in trials))
    seeds = list(dict.fromkeys(each.seed for each in trials))
    variant, seed = names.index(trial.variant.name) + 1, seeds.index(trial.seed) + 1
    return f"variant {variant} of {len(names)}, seed {seed} of {len(seeds)}"


def stopped(error: BaseException, folder: Path, done: str) -> StoppedError:
    """The error that says what is kept."""
    kept = f"{done} have ended, and are kept"
    if isinstance(error, StoppedError):
        return StoppedError(f"{error.cause}; {kept}", str(folder), exit_code=error.exit_code)
    number = int(error.args[0]) if error.args else 2
    return StoppedError(f"between two trainings; {kept}", str(folder), exit_code=128 + number)


def findings(experiment: Experiment, trials: Sequence[Trial], outcomes: Sequence[Outcome]) -> Findings:
    """The rows of the table: of each variant its size, and what became of its trials."""
    rows = []
    for name in dict.fromkeys(trial.variant.name for trial in trials):
        of_it = [
            (trial, each) for trial, each in zip(trials, outcomes, strict=True) if trial.variant.name == name
        ]
        model = size_of(*of_it[0]).model
        of_all, of_matrices = count.parameters(model), count.matmul_parameters(model)
        rows.append(Row(of_it[0][0].variant, of_all, of_matrices, tuple(each for _, each in of_it)))
    seeds = tuple(each.seed for each in rows[0].outcomes)
    return Findings(experiment, seeds, rows[0], tuple(rows[1:]))


def size_of(trial: Trial, outcome: Outcome) -> AnyConfig:
    """The config of a trial with the vocabulary of its run; before there is one, as far as it is known."""
    if outcome.path:
        return RunDirectory(Path(outcome.path)).read_config()
    return with_vocabulary(trial.config, trial.config.model.vocab_size or vocabulary(trial.config))
