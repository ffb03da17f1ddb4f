"""Train, resume, load: the verbs of the command line as a small Python API.

run = primer.train("shakespeare")
print(primer.load(run).generate("ROMEO:"))
"""

import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

import primer
from primer import config as configs
from primer import device as devices
from primer import tokens as tokenizers
from primer.data.batches import evaluation_windows
from primer.data.prepare import prepare
from primer.data.shards import ShardDirectory
from primer.errors import DataError, DivergedError, StoppedError, UsageError
from primer.evals.perplexity import score
from primer.generation.sampling import Sampling
from primer.generation.text import streams
from primer.models.count import flops_per_token
from primer.models.gpt import GPT
from primer.recipes import directory
from primer.recipes.build import accelerate, build_model, build_trainer, choose_micro_batch
from primer.recipes.config import RunConfig
from primer.recipes.directory import RunDirectory
from primer.recipes.resolve import resolve
from primer.recipes.session import Reporter, Session, Silence
from primer.tokens.tokenizer import Tokenizer
from primer.training import checkpoint
from primer.training.distributed import World, joined, place
from primer.training.lock import RunLock
from primer.training.loop import Trainer, fit


class Run:
    """A run on disk: its choices, its curves, and its model, which is read when it is first needed."""

    def __init__(self, run: RunDirectory, which: Literal["best", "latest"] = "best") -> None:
        self.directory = run
        self.path = run.path
        self.config = run.read_config()
        self.which = which
        self._model: GPT | None = None
        self._tokenizer: Tokenizer | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def tokenizer(self) -> Tokenizer:
        """Text ↔ ids of this run."""
        if self._tokenizer is None:
            self._tokenizer = read_tokenizer(self.directory)
        return self._tokenizer

    @property
    def model(self) -> GPT:
        """The trained model, ready to read and to write."""
        if self._model is None:
            device = devices.choose(self.config.train.device)
            self._model = GPT(self.config.model).to(device).eval()
            load_weights(self._model, self.directory, self.which)
        return self._model

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of metrics.jsonl: those with `loss` are steps, those with `val_loss` evaluations."""
        return self.directory.metrics.rows()

    def stream(self, prompt: str | None = None, **wanted: Any) -> Iterator[str]:
        """Write on from `prompt`, piece by piece, as `generate` does."""
        for (piece,) in self.streams(prompt, n=1, **wanted):
            if piece:
                yield piece

    def generate(self, prompt: str | None = None, *, n: int = 1, **wanted: Any) -> str | list[str]:
        """What the model writes after `prompt` (a list of n texts where n > 1), without the prompt.

        Keywords: tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop, use_cache; unset,
        the first four are those of the run's `[sample]`.
        """
        texts = [""] * n
        for pieces in self.streams(prompt, n=n, **wanted):
            texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
        return texts if n > 1 else texts[0]

    def streams(
        self,
        prompt: str | None = None,
        *,
        n: int = 1,
        tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        use_cache: bool = True,
    ) -> Iterator[list[str]]:
        """n texts at once, piece by piece: one list of n pieces (often empty ones) a token."""
        usual = self.config.sample
        sampling = Sampling(
            temperature=usual.temperature if temperature is None else temperature,
            top_k=usual.top_k if top_k is None else top_k,
            top_p=usual.top_p if top_p is None else top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
        )
        return streams(
            self.model,
            self.tokenizer,
            usual.prompt if prompt is None else prompt,
            samples=n,
            max_tokens=usual.tokens if tokens is None else tokens,
            sampling=sampling,
            seed=seed,
            stop=stop,
            use_cache=use_cache,
        )

    def evaluate(self, text: str | Path | None = None) -> dict[str, float]:
        """Loss (nats a token), perplexity and bits per byte on the validation split, or on another text."""
        if text is None:
            shards = open_data(self.config, self.directory)
            ids = np.asarray(shards.tokens("validation")[:])
        else:
            from primer.corpus.sources import open_source

            source = open_source(
                text, encoding=self.config.data.encoding, encoding_errors=self.config.data.encoding_errors
            )
            pieces = [self.tokenizer.encode(document.text) for document in source.documents()]
            ids = np.concatenate(pieces) if pieces else np.empty(0, np.int64)
            if len(ids) < 2:
                raise DataError("there is nothing to predict in this text", where=str(text))
        context = self.config.model.context_length
        windows = evaluation_windows(ids, batch_size=max(1, 8192 // context), context_length=context)
        lengths = torch.from_numpy(np.asarray(self.tokenizer.byte_lengths, dtype=np.int64))
        return asdict(score(self.model, windows, lengths))


def train(
    target: str | Path | None = "default",
    *,
    flags: Mapping[str, Any] | None = None,
    runs_dir: str | Path = "runs",
    init_from: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Train a recipe, or the default recipe on a text or a folder of text; returns the finished run.

    flags: dotted overrides, `{"train.steps": 500}`. init_from: another run whose weights this one starts with.
    Raises `PrimerError`s; with Ctrl-C the run is saved and `StoppedError` says how to go on.
    """
    config = resolve(target, flags=flags or {}).config
    report = reporter or Silence()
    with ExitStack() as stack:
        device, world = enter(config, stack)
        shards = prepare_data(config, world)
        config = complete(config, shards, device)
        model = build_model(config, shards, device)
        if init_from is not None:
            adopt_weights(model, shards.tokenizer, directory.find(init_from, runs_dir))
        config = with_micro_batch(config, choose_micro_batch(config, model, world))
        trainer = build_trainer(config, model, shards, world)
        config = accelerate(trainer, config, world, report.on_message)
        trainer.config = config.train
        if world.is_first:
            run = directory.create(Path(runs_dir), recipe_name(config))
            stack.enter_context(RunLock(run.path))
            begin(run, config, shards, device, init_from)
        number = world.first(int(run.id, 16) if world.is_first else 0, device)
        if not world.is_first:
            run = directory.find(f"{number:06x}", runs_dir)
        return work(run, config, trainer, shards, report, stack)


def resume(
    run: str | Path,
    *,
    flags: Mapping[str, Any] | None = None,
    runs_dir: str | Path = "runs",
    reporter: Reporter | None = None,
) -> Run:
    """Go on with a run from its newest whole checkpoint, as if it had never stopped, bit for bit.

    flags: what to change, `{"train.steps": 2000}` for instance. What was chosen by measuring is kept.
    """
    report = reporter or Silence()
    found = directory.find(run, runs_dir)
    changes = configs.nested(dict(flags or {}))
    config = configs.merge(
        RunConfig, [("run", configs.to_dict(found.read_config())), ("flag", changes)]
    ).config
    with ExitStack() as stack:
        device, world = enter(config, stack)
        if world.is_first:
            stack.enter_context(RunLock(found.path))
            checkpoint.sweep(found.checkpoints)
        shards = open_data(config, found)
        at = newest_step(found, world, device, report)
        saved = checkpoint.load(checkpoint.step_directory(found.checkpoints, at))
        check_origin(saved, shards)
        model = build_model(config, shards, device)
        trainer = build_trainer(config, model, shards, world)
        config = accelerate(trainer, config, world, report.on_message)
        restore(trainer, saved)
        if world.is_first:
            found.metrics.trim(trainer.progress.step)
            found.samples.trim(trainer.progress.step)
            found.write_config(config)
            found.update_facts(status="training", resumed=[*found.read_facts().get("resumed", []), at])
            report.on_message(f"going on after step {trainer.progress.step}")
        if trainer.progress.step >= config.train.steps:
            raise UsageError(
                f"this run is finished: it has taken its {config.train.steps} steps",
                where=str(found.path),
                hint=f"--train.steps={2 * config.train.steps} to go on",
            )
        return work(found, config, trainer, shards, report, stack)


def load(
    run: str | Path | Run, *, runs_dir: str | Path = "runs", checkpoint: Literal["best", "latest"] = "best"
) -> Run:
    """A run to sample from, evaluate and look into."""
    return Run(directory.find(run.path if isinstance(run, Run) else run, runs_dir), checkpoint)


def work(
    run: RunDirectory,
    config: RunConfig,
    trainer: Trainer,
    shards: ShardDirectory,
    report: Reporter,
    stack: ExitStack,
) -> Run:
    """The session itself: train, and say how it ended in run.json and by an exception where it did not end well."""
    facts = {
        "data": shards.fingerprint,
        "tokenizer": shards.tokenizer.fingerprint,
        "versions": versions(),
    }
    session = stack.enter_context(Session(run, config, trainer, shards, report, facts))
    if not isinstance(session.reporter, Silence):
        session.reporter.on_start(start_info(run, config, trainer, shards))
    first = trainer.world.is_first
    try:
        if trainer.progress.step == 0:
            session.save(0, best=False)  # from the first moment there is something to go on from
        finished = fit(trainer, session)
    except BaseException as error:
        if first:
            run.update_facts(status="diverged" if isinstance(error, DivergedError) else "failed", ended=now())
        if hasattr(error, "where") and session.saved:
            error.where = f"{error.where}; the last good checkpoint is {run.checkpoints / session.saved}"
        raise
    if first:
        run.update_facts(status="finished" if finished else "stopped", ended=now())
    session.reporter.on_end(
        {
            "path": str(run.path),
            "id": run.id,
            "finished": finished,
            **vars(trainer.progress),
            "saved": session.saved,
        }
    )
    if not finished:
        code = 128 + session.asked_by if session.asked_by else 130
        raise StoppedError(
            f"stopped after step {trainer.progress.step}, which is saved",
            where=str(run.path),
            hint=f"primer resume {run.id}",
            exit_code=code,
        )
    return Run(run)


def enter(config: RunConfig, stack: ExitStack) -> tuple[torch.device, World]:
    """Choose the device and the threads, and join the other processes where there are any."""
    device = devices.choose(config.train.device)
    if device.type == "cuda" and place().size > 1:
        device = torch.device("cuda", place().local_rank)
        torch.cuda.set_device(device)
    devices.set_threads(config.train.threads)
    devices.reuse_memory()
    return device, stack.enter_context(joined(device))


def prepare_data(config: RunConfig, world: World) -> ShardDirectory:
    """The shards of the config's text: made by the first process, then opened by the others."""
    if not world.is_first:
        world.barrier()
    data = config.data
    shards = prepare(
        data.source,
        tokenizer=data.tokenizer,
        validation_fraction=data.validation_fraction,
        unknown=data.unknown,
        encoding=data.encoding,
        encoding_errors=data.encoding_errors,
        context_length=config.model.context_length,
    )
    if world.is_first:
        world.barrier()
    return shards


def open_data(config: RunConfig, run: RunDirectory) -> ShardDirectory:
    """The shards that a run was trained on; a text that changed since then is refused."""
    facts = run.read_facts()["data"]
    try:
        shards = ShardDirectory.open(facts["path"])
    except DataError:
        shards = prepare_data(config, World())
    if shards.fingerprint != facts["fingerprint"]:
        raise DataError(
            f"the text of this run has changed: {config.data.source} is not what it was trained on",
            where=str(run.path),
            hint="put the old text back, or start a new run from these weights: primer train … --init-from",
        )
    return shards


def complete(config: RunConfig, shards: ShardDirectory, device: torch.device) -> RunConfig:
    """Write what was only asked for as "auto" or 0 as what it turned out to be."""
    vocabulary = shards.tokenizer.vocab_size
    if config.model.vocab_size and config.model.vocab_size < vocabulary:
        raise UsageError(
            f"model.vocab_size={config.model.vocab_size} is smaller than the tokenizer's {vocabulary}",
            hint="leave it out: it is taken from the tokenizer",
        )
    dtype = devices.autocast_dtype(device, config.train.precision)
    names: dict[torch.dtype | None, Literal["fp32", "bf16", "fp16"]] = {
        None: "fp32",
        torch.bfloat16: "bf16",
        torch.float16: "fp16",
    }
    kind: Any = device.type
    return replace(
        config,
        model=replace(config.model, vocab_size=config.model.vocab_size or vocabulary),
        train=replace(config.train, device=kind, precision=names[dtype], threads=torch.get_num_threads()),
    )


def with_micro_batch(config: RunConfig, rows: int) -> RunConfig:
    """The config with the micro-batch that was measured."""
    return replace(config, train=replace(config.train, micro_batch=rows))


def begin(
    run: RunDirectory,
    config: RunConfig,
    shards: ShardDirectory,
    device: torch.device,
    init_from: str | Path | None,
) -> None:
    """Write what is known before the first step."""
    run.write_config(config)
    checkpoint.write_atomically(run.tokenizer_file, shards.tokenizer.to_json())
    run.write_facts(
        {
            "id": run.id,
            "recipe": config.recipe,
            "started": now(),
            "status": "training",
            "command": sys.argv,
            "seed": config.seed,
            "init_from": str(init_from) if init_from is not None else None,
            "data": {"path": str(shards.path.resolve()), "fingerprint": shards.fingerprint},
            "source": shards.source,
            "tokenizer": shards.tokenizer.fingerprint,
            "versions": versions(),
            "hardware": devices.describe(device),
        }
    )


def newest_step(run: RunDirectory, world: World, device: torch.device, report: Reporter) -> int:
    """The step of the newest whole checkpoint; the first process decides, so that all resume from the same one."""
    step = -1
    if world.is_first:
        path = checkpoint.newest(run.checkpoints, report.on_message)
        step = int(path.name[5:]) if path else -1
    step = world.first(step, device)
    if step < 0:
        raise DataError(
            "this run has no whole checkpoint to go on from",
            where=str(run.checkpoints),
            hint=f"start it again: primer train {run.path / 'config.toml'}",
        )
    return step


def check_origin(saved: checkpoint.Checkpoint, shards: ShardDirectory) -> None:
    """Refuse a checkpoint that belongs to another text or another vocabulary."""
    here_now = (
        ("data", "text", shards.fingerprint),
        ("tokenizer", "characters", shards.tokenizer.fingerprint),
    )
    for name, kind, here in here_now:
        if saved.state[name] != here:
            raise DataError(
                f"the checkpoint was made with other {kind} than the run has now",
                where=str(saved.path),
            )


def restore(trainer: Trainer, saved: checkpoint.Checkpoint) -> None:
    """Put weights, optimizer, mean, stream and generators back."""
    weights = saved.model
    if trainer.average:
        weights = {**saved.model, **_under("weights.", saved.optim)}
        trainer.average.restore(saved.model, saved.state["averaged"])
    put_weights(trainer.model, weights, str(saved.path))
    trainer.optimizer.load_state_tensors(_under("optim.", saved.optim))
    trainer.restore(saved.state)


def load_weights(model: GPT, run: RunDirectory, which: Literal["best", "latest"]) -> None:
    """Fill a model from a run's checkpoint, verified."""
    path = checkpoint.follow(run.checkpoints, which) or checkpoint.newest(run.checkpoints)
    if path is None:
        raise DataError("this run has no checkpoint yet", where=str(run.path), hint=f"primer resume {run.id}")
    saved = checkpoint.load(path)
    if saved.state["tokenizer"] != read_tokenizer(run).fingerprint:
        raise DataError(
            "tokenizer.json is not the one that these weights were trained with",
            where=str(run.tokenizer_file),
        )
    put_weights(model, saved.model, str(path))


def adopt_weights(model: GPT, tokenizer: Tokenizer, run: RunDirectory) -> None:
    """Start from another run's weights; the vocabulary and the sizes must be the same."""
    theirs = read_tokenizer(run)
    if theirs.fingerprint != tokenizer.fingerprint:
        raise DataError(
            "the run to start from has another vocabulary than this text",
            where=str(run.path),
            hint="--data.tokenizer=byte in both runs fits every text",
        )
    load_weights(model, run, "best")


@torch.no_grad()
def put_weights(model: GPT, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into a model that has exactly these."""
    if model.counts is not None:  # how many n-grams there are is known to the checkpoint alone
        model.counts.adopt(_under("counts.", weights))
    own = checkpoint.weights_of(model)
    checkpoint.match(dict(weights), own, where)
    for name, tensor in own.items():
        tensor.copy_(weights[name])


def read_tokenizer(run: RunDirectory) -> Tokenizer:
    """The tokenizer that a run keeps."""
    try:
        text = run.tokenizer_file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"the tokenizer cannot be read: {error.strerror}", where=str(run.tokenizer_file)
        ) from None
    return tokenizers.from_json(text, where=str(run.tokenizer_file))


def start_info(
    run: RunDirectory, config: RunConfig, trainer: Trainer, shards: ShardDirectory
) -> dict[str, Any]:
    """What a reporter says before the first step."""
    device = trainer.precision.device
    return {
        "path": str(run.path),
        "id": run.id,
        "recipe": config.recipe,
        "about": config.about,
        "steps": config.train.steps,
        "step": trainer.progress.step,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "source": shards.source["name"],
        "train_tokens": shards.counts["train"]["tokens"],
        "validation_tokens": shards.counts["validation"]["tokens"],
        "vocabulary": shards.tokenizer.vocab_size,
        "tokens_a_step": config.train.batch_size * config.model.context_length,
        "micro_batch": config.train.micro_batch,
        "device": str(device),
        "precision": config.train.precision,
        "threads": config.train.threads,
        "flops_per_token": flops_per_token(config.model),
        "matmul_rate": devices.matmul_rate(device, trainer.precision.dtype or torch.float32),
    }


def recipe_name(config: RunConfig) -> str:
    """The recipe's name, fit for a directory's name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in config.recipe) or "run"


def versions() -> dict[str, str]:
    """What the bits of a run depend on."""
    return {"primer": primer.__version__, "torch": torch.__version__, "python": platform.python_version()}


def now() -> str:
    """UTC, to the microsecond, so that runs have an order."""
    return datetime.now(UTC).isoformat()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
