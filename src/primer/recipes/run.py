"""Train, resume, load: the verbs of the command line as a small Python API.

run = primer.train("shakespeare")
print(primer.load(run).generate("ROMEO:"))
"""

import hashlib
import os
import platform
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import primer
from primer import config as configs
from primer import device as devices
from primer.assets import write_atomically
from primer.errors import DivergedError, PrimerError, UsageError
from primer.lock import RunLock
from primer.models.count import flops_per_token
from primer.recipes import directory
from primer.recipes.config import PLACES, AnyConfig, is_dropout, title
from primer.recipes.directory import RunDirectory
from primer.recipes.ending import how_it_went, in_words, stopped
from primer.recipes.kinds import kind_of
from primer.recipes.loaded import Run
from primer.recipes.measure import (
    accelerate,
    choose_parallel,
    fit_into_minutes,
    require_memory,
    usable_attention,
    with_train,
)
from primer.recipes.plan import plan, with_vocabulary
from primer.recipes.report import PlainReporter, Reporter, Silence
from primer.recipes.resolve import beside, resolve
from primer.recipes.session import Data
from primer.recipes.text import read_tokenizer
from primer.recipes.weights import (
    Which,
    adopt_weights,
    check_neighbours,
    check_origin,
    model_fingerprint,
    newest_step,
    point_at_best,
    restore,
    understood,
)
from primer.training import checkpoint
from primer.training.distributed import World, joined, launch, place, restarted
from primer.training.log import check_installed
from primer.training.loop import Trainer, fit
from primer.training.optim import orthogonalise_dtype
from primer.training.precision import padded
from primer.training.sharding import shard

FIXED = ("recipe", "seed", "data.", "model.", "train.minutes")
"""What cannot change when a run goes on: its text, its chance, its model, and how its length was found."""


def train(
    target: str | Path | None = "default",
    *,
    flags: Mapping[str, Any] | None = None,
    runs_dir: str | Path = "runs",
    init_from: str | Path | Run | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Train a recipe, or the default recipe on a text or a folder of text; returns the finished run.

    flags: dotted overrides, `{"train.steps": 500}`. reporter: who is told; `Silence()` for nobody.
    init_from: another run whose weights, sizes and vocabulary this one starts with; a character that it never saw
    is an error, or dropped with `data.unknown="skip"`.
    Raises `PrimerError`s; with Ctrl-C the run is saved and `StoppedError` says how to go on.
    """
    origin = directory.find(os.fspath(init_from), runs_dir) if init_from is not None else None
    inherited = directory.brought_along(origin) if origin else None
    resolved = resolve(target, beneath_flags=inherited, flags=flags or {})
    config: AnyConfig = resolved.config
    if origin and config.data.tokenizer != origin.read_config().data.tokenizer:
        raise UsageError("data.tokenizer is that of the run to start from", hint="leave --data.tokenizer out")
    if config.needs_weights and not origin:
        raise UsageError(
            f"recipe {config.recipe} goes on from the weights of another run", hint="--init-from=RUN"
        )
    asked = hashlib.sha256(configs.to_toml(config).encode()).hexdigest()
    started = {"torchrun": launch(), "asked": asked}
    if restarted() and (mine := directory.of_launch(started, runs_dir)):
        done = mine.read_facts()["status"] == "finished"
        return Run(mine) if done else resume(mine.path, reporter=reporter)
    with ExitStack() as stack:
        device, world = enter(config, stack)
        report = teller(reporter, world)
        check_installed(config.train.trackers)
        theirs = read_tokenizer(origin) if origin else None
        kind = kind_of(config)
        data = kind.prepare(config, world, theirs, report.on_message)
        config = choose_parallel(complete(config, data, device), device, world)
        require_memory(config, device, world)
        model = kind.model(config, data, device)
        if origin:
            adopt_weights(model, config.model, origin)
        usable_attention(config, model, device)
        share_out(model, config, world)
        config = kind.with_micro_batch(config, model, world)
        config = fit_into_minutes(
            config, model, partial(kind.trainer, config, data=data, world=world), world, report.on_message
        )
        trainer = kind.trainer(config, model, data, world)
        if odd := padded(model, config.precision, trainer.places if trainer.shape else 0):
            report.on_message(odd)
        config = kind.checked(config, trainer, data, world, resolved.origins, report.on_message)
        config = accelerate(trainer, config, world, report.on_message)
        trainer.config = config.train
        if world.is_first:
            configs.to_toml(config)  # what cannot be written is refused before there is a directory
            run = directory.create(Path(runs_dir), directory_name(config))
            stack.enter_context(RunLock(run.path))
            begin(run, config, data, device, origin, started)
            world.first(int(run.id, 16), device)  # tells the others, who find it by now
        else:
            run = directory.find(f"{world.first(0, device):06x}", runs_dir)
        return work(run, config, trainer, data, report)


def resume(
    run: str | Path | Run,
    *,
    flags: Mapping[str, Any] | None = None,
    runs_dir: str | Path = "runs",
    reporter: Reporter | None = None,
) -> Run:
    """Go on with a run from its newest whole checkpoint, as if it had never stopped, bit for bit.

    flags: what to change, `{"train.steps": 2000}` for instance; `data.source` where its text was moved. What was chosen
    by measuring is kept.
    """
    found = directory.find(os.fspath(run), runs_dir)
    if found.is_imported:
        raise UsageError(
            "this run was imported: there is no training to go on with",
            where=str(found.path),
            hint=f"a training that starts from it: primer train my.txt --init-from={found.handle}",
        )
    config, moved = changed(found, flags or {})
    with ExitStack() as stack:
        device, world = enter(config, stack)
        report = teller(reporter, world)
        check_installed(config.train.trackers)
        if world.is_first:
            stack.enter_context(RunLock(found.path))
            checkpoint.sweep(found.path)
            checkpoint.sweep(found.checkpoints)
        kind = kind_of(config)
        data = kind.reopen(config, found, world, moved)
        at = newest_step(found, world, device, report)
        saved = checkpoint.load(checkpoint.step_directory(found.checkpoints, at))
        with understood(saved):
            check_origin(saved, data)
            check_neighbours(saved, found, config.model)
            looked = saved.state["progress"]["looked"]
        if at >= config.train.steps and looked == at:
            raise UsageError(
                f"this run is finished: it has taken {at} of its {config.train.steps} steps",
                where=str(found.path),
                hint=f"--train.steps={2 * max(at, config.train.steps)} to go on",
            )
        config = choose_parallel(complete(config, data, device), device, world)
        require_memory(config, device, world)
        model = kind.model(config, data, device)
        asked = "train.attention" in configs.dotted(configs.nested(configs.spelt(flags or {})))
        usable_attention(config, model, device, None if asked else report.on_message)
        share_out(model, config, world)
        config = kind.with_micro_batch(config, model, world)
        trainer = kind.trainer(config, model, data, world)
        config = accelerate(trainer, config, world, report.on_message)
        restore(trainer, saved)
        if world.is_first:
            checkpoint.forget_after(found.checkpoints, at)
            point_at_best(found, trainer.progress.best_step)
            found.metrics.trim(at, looked)
            found.samples.trim(looked)
            found.write_config(config)
            text = {"path": str(data.path.resolve()), "fingerprint": data.fingerprint}
            resumed = [*found.read_facts().get("resumed", []), at]
            found.update_facts(status="training", resumed=resumed, data=text)
            report.on_message(f"going on after step {at}")
            if (before := saved.state["world_size"]) != world.size:
                report.on_message(f"with {in_words(world.size)}; before it was {in_words(before)}")
        return work(found, config, trainer, data, report, saved.path.name)


def changed(run: RunDirectory, flags: Mapping[str, Any]) -> tuple[AnyConfig, bool]:
    """A run's config with what may change when it goes on, and whether its text lies at another place now."""
    changes = beside(Path(), configs.nested(configs.spelt(flags)))
    moved = {f"data.{name}" for name in PLACES} & set(configs.dotted(changes))
    fixed = [key for key in configs.dotted(changes) if key.startswith(FIXED) and not is_dropout(key)]
    if fixed := [key for key in fixed if key not in moved]:
        hint = "--train.steps=N: go on to step N" if fixed == ["train.minutes"] else "a new run: primer train"
        raise UsageError(f"{', '.join(fixed)} cannot change when a run goes on", hint=hint)
    for batch, micro in (("batch_size", "micro_batch"), ("batch_tokens", "micro_tokens")):
        if batch in (training := changes.get("train", {})):
            training.setdefault(micro, 0)  # the old one was measured for another batch
    before = run.read_config()
    layers = [("run", configs.to_dict(before)), ("flag", changes)]
    return configs.merge(type(before), layers).config, bool(moved)


def teller(reporter: Reporter | None, world: World) -> Reporter:
    """Who tells how it goes: the one that was given, else lines on stderr; only the first process speaks."""
    if not world.is_first or not (reporter or sys.stderr):
        return Silence()
    return reporter or PlainReporter(sys.stderr)


def load(run: str | Path | Run, *, runs_dir: str | Path = "runs", checkpoint: Which | None = None) -> Run:
    """A run to sample from (or to translate with), evaluate and look into.

    checkpoint: which one; unset, the best by its validation loss, and of one that translates the mean of the newest.
    """
    return Run(directory.find(os.fspath(run), runs_dir), checkpoint)


def work(
    run: RunDirectory,
    config: AnyConfig,
    trainer: Trainer,
    data: Data,
    report: Reporter,
    saved: str | None = None,
) -> Run:
    """The session itself: train, and say how it ended in run.json and by an exception where it did not end well.

    `saved`: the checkpoint that this session starts from, if there is one.
    """
    facts = {
        "data": data.fingerprint,
        "tokenizer": data.tokenizer.fingerprint,
        "model": model_fingerprint(config.model),
        "versions": versions(),
    }
    session = kind_of(config).session(run, config, trainer, data, report, facts, saved)
    first = trainer.world.is_first
    planned = None
    try:
        with session:
            if not isinstance(session.reporter, Silence):
                planned = plan(config, {})
                session.reporter.on_start(start_info(run, config, trainer, data, planned))
                days = planned["seconds"] * (1 - trainer.progress.step / config.train.steps) / 86400
                if days > 1:
                    session.reporter.on_message(
                        f"about {days:,.0f} days on this machine, by plan: --train.minutes=M trains what fits into M"
                    )
            if session.saved is None:
                session.save(0, best=False)  # from the first moment there is something to go on from
            finished = fit(trainer, session)
    except BaseException as error:
        if first:
            status = {DivergedError: "diverged", KeyboardInterrupt: "stopped"}.get(type(error), "failed")
            run.update_facts(status=status, ended=now())
        if isinstance(error, KeyboardInterrupt) and session.saved:
            number = int(error.args[0]) if error.args else 2
            raise stopped(run, trainer.world, f"at once; {session.saved} is saved", number) from error
        if isinstance(error, PrimerError) and session.saved:
            good = f"the last good checkpoint is {run.checkpoints / session.saved}"
            error.where = f"{error.where}; {good}" if error.where else good
        raise
    finally:
        trainer.forward = trainer.model  # what wraps it for several processes holds their group: see `joined`
    came_true = how_it_went(trainer, planned) if planned else {}
    if first:
        run.update_facts(status="finished" if finished else "stopped", ended=now(), **came_true)
    session.reporter.on_end(
        {
            "path": str(run.path),
            "handle": run.handle,
            "kind": config.kind,
            "finished": finished,
            **vars(trainer.progress),
            **came_true,
            "saved": session.saved,
        }
    )
    if not finished:
        step = trainer.progress.step  # which was not saved if its numbers were not finite
        up_to_date = checkpoint.step_directory(run.checkpoints, step).name == session.saved
        when = f"after step {step}, " + ("which is saved" if up_to_date else f"{session.saved} is saved")
        raise stopped(run, trainer.world, when, session.asked_by or signal.SIGINT)
    return Run(run)


def enter(config: AnyConfig, stack: ExitStack) -> tuple[torch.device, World]:
    """Choose the device and the threads, and join the other processes where there are any."""
    device = devices.choose(config.train.device)
    if device.type == "cuda" and place().size > 1:
        device = torch.device("cuda", place().local_rank)
        torch.cuda.set_device(device)
    devices.set_threads(config.train.threads)
    devices.reuse_memory()
    if config.train.deterministic:
        stack.enter_context(devices.deterministic())
    return device, stack.enter_context(joined(device))


def complete(config: AnyConfig, data: Data, device: torch.device) -> AnyConfig:
    """Write what was only asked for as "auto" or 0 as what it turned out to be."""
    vocabulary = data.tokenizer.vocab_size
    if config.model.vocab_size and config.model.vocab_size < vocabulary:
        raise UsageError(
            f"model.vocab_size={config.model.vocab_size} is smaller than the tokenizer's {vocabulary}",
            hint="leave it out: it is taken from the tokenizer",
        )
    precision = precision_name(devices.autocast_dtype(device, config.train.precision))
    devices.use_tf32(device, precision != "fp32")
    muon_dtype = config.optim.muon_dtype
    if muon_dtype == "auto":
        muon_dtype = "bf16" if orthogonalise_dtype(device) == torch.bfloat16 else "fp32"
    kind: Any = device.type
    config = with_vocabulary(config, config.model.vocab_size or config.model.padded(vocabulary))
    config = with_train(config, device=kind, precision=precision, threads=torch.get_num_threads())
    return replace(config, optim=replace(config.optim, muon_dtype=muon_dtype))


def share_out(model: nn.Module, config: AnyConfig, world: World) -> None:
    """Keep only this process's slices of the weights, where the config says so and there are other processes."""
    if world.size > 1 and config.train.parallel == "fsdp":
        shard(model)


def precision_name(dtype: torch.dtype | None) -> Literal["fp32", "bf16", "fp16"]:
    """A dtype of matrix products as the config calls it."""
    if dtype is None:
        return "fp32"
    return "bf16" if dtype == torch.bfloat16 else "fp16"


def begin(
    run: RunDirectory,
    config: AnyConfig,
    data: Data,
    device: torch.device,
    origin: RunDirectory | None,
    launch: Mapping[str, Any],
) -> None:
    """Write what is known before the first step."""
    run.write_config(config)
    write_atomically(run.tokenizer_file, data.tokenizer.to_json())
    run.write_facts(
        {
            "id": run.id,
            "recipe": config.recipe,
            "started": now(),
            "status": "training",
            "command": sys.argv,
            "seed": config.seed,
            "init_from": str(origin.path.resolve()) if origin else None,
            "launch": launch,
            "data": {"path": str(data.path.resolve()), "fingerprint": data.fingerprint},
            "source": data.source,
            "tokenizer": data.tokenizer.fingerprint,
            "versions": versions(),
            "hardware": devices.describe(device),
        }
    )


def start_info(
    run: RunDirectory,
    config: AnyConfig,
    trainer: Trainer,
    data: Data,
    planned: dict[str, Any],
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
        "source": data.source["name"],
        "vocabulary": data.tokenizer.vocab_size,
        **kind_of(config).start_info(config, data),
        "device": str(device),
        "precision": config.train.precision,
        "formats": config.precision.in_words(),
        "attention": config.train.attention,
        "threads": config.train.threads,
        "processes": trainer.world.size,
        "parallel": config.train.parallel,
        "flops_per_token": flops_per_token(config.model),
        "matmul_rate": planned["matmul_flops"],
    }


def directory_name(config: AnyConfig) -> str:
    """The recipe's name, or the text's where the recipe is the usual one, fit for a directory's name."""
    name = title(config)
    name = Path(name).stem if name != config.recipe else name
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name)
    return plain[:40].strip("-.") or "run"


def versions() -> dict[str, str]:
    """What the bits of a run depend on."""
    return {"primer": primer.__version__, "torch": torch.__version__, "python": platform.python_version()}


def now() -> str:
    """UTC, to the microsecond, so that runs have an order."""
    return datetime.now(UTC).isoformat()
