"""What is chosen by measuring leaves no trace, and falls back with a word."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch

import primer
import setups
from primer.errors import SurroundingsError
from primer.kernels.attention import Implementation
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.nn import attention as rooms
from primer.nn.attention import Heads
from primer.recipes import measure
from primer.recipes.config import RunConfig
from primer.recipes.measure import choose_micro_batch
from primer.recipes.plan import candidates, training_bytes
from primer.recipes.resolve import resolve
from primer.training.config import Attention, PrecisionConfig, TrainConfig
from primer.training.distributed import World
from primer.training.precision import compiles

TINY = {**setups.TINY, "train.steps": 3, "train.batch_size": 4, "train.sample_every": 0, "schedule.warmup": 1}


def test_a_compiler_that_fails_costs_nothing(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Messages:
        def __init__(self) -> None:
            self.said: list[str] = []

        def __getattr__(self, name: str) -> Any:
            return self.said.append if name == "on_message" else lambda *values: None

    def broken(module: torch.nn.Module) -> Any:
        def fail(tokens: torch.Tensor, **more: Any) -> torch.Tensor:
            module(tokens, **more)
            raise RuntimeError("no compiler here")

        return fail

    plain = primer.train(text_file, flags={**TINY, "train.compile": "off"}, runs_dir=tmp_path)
    monkeypatch.setattr(torch, "compile", broken)
    messages = Messages()
    run = primer.train(text_file, flags={**TINY, "train.compile": "on"}, runs_dir=tmp_path, reporter=messages)
    assert any("torch.compile failed (RuntimeError)" in said for said in messages.said)
    assert run.config.train.compile == "off"
    losses = [[row["loss"] for row in each.metrics() if "loss" in row] for each in (plain, run)]
    assert losses[0] == losses[1]


def test_emulated_formats_are_not_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked for or not; what the device itself computes in is."""
    cpu = torch.device("cpu")
    assert compiles(PrecisionConfig(), cpu)
    assert compiles(PrecisionConfig(weights="bf16", gradients="bf16", optimizer="bf16"), cpu)
    assert compiles(PrecisionConfig(matmul="e4m3", native="on"), cpu)
    for emulated in (
        PrecisionConfig(matmul="e4m3"),
        PrecisionConfig(matmul="mxfp4"),
        PrecisionConfig(matmul="e4m3", native="on", gradients_rounding="stochastic"),
        PrecisionConfig(attention="bf16"),
        PrecisionConfig(activations="bf16"),
    ):
        assert not compiles(emulated, cpu)

    def never(model: torch.nn.Module) -> Any:
        raise AssertionError("tried")

    monkeypatch.setattr(torch, "compile", never)
    said: list[str] = []
    trainer: Any = SimpleNamespace(
        precision=SimpleNamespace(device=cpu), shape=(4, 8), model=torch.nn.Identity()
    )
    config = RunConfig(
        train=TrainConfig(compile="on"),
        precision=PrecisionConfig(matmul="mxfp4"),
        model=GPTConfig(vocab_size=5),
    )
    assert measure.accelerate(trainer, config, World(), said.append).train.compile == "off"
    assert said == ["torch.compile does not see through emulated formats, going on without it"]


def test_the_micro_batch_divides_the_batch_and_leaves_no_trace() -> None:
    model = GPT(
        GPTConfig(vocab_size=5, d_model=8, n_layers=1, n_heads=1, context_length=128, pattern_dropout=0.1)
    )
    config = RunConfig(model=model.config, train=TrainConfig(batch_size=48, device="cpu", precision="fp32"))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    chosen = choose_micro_batch(config, model, World())
    assert 48 % chosen == 0
    assert 1024 <= chosen * 128 <= 48 * 128
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in model.parameters())


def trainer_of_heads() -> Any:
    model = GPT(GPTConfig(vocab_size=5, d_model=8, n_layers=2, n_heads=2, context_length=16))
    cpu = SimpleNamespace(device=torch.device("cpu"), dtype=None)
    return SimpleNamespace(model=model, precision=cpu, shape=(4, 8))


def implementations(model: torch.nn.Module) -> set[str]:
    return {each.implementation for each in model.modules() if isinstance(each, Heads)}


def test_the_fastest_attention_is_kept_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails at the model's size is passed over; what a resumed run's config names is not measured again."""
    seconds = {"library": 2.0, "library_cudnn": 3.0, "reference": 1.0}
    taken: list[str] = []

    def passes(trainer: Any, forward: Any) -> float:
        (name,) = implementations(forward)
        taken.append(name)
        if name not in seconds:
            raise OSError("no such kernel")
        return seconds[name]

    monkeypatch.setattr(measure, "_seconds_of_passes", passes)
    monkeypatch.setattr(measure, "to_try", lambda *_: ["gpu", *seconds])
    trainer, config = trainer_of_heads(), RunConfig(train=TrainConfig(compile="off"))
    config = measure.accelerate(trainer, config, World(), pytest.fail)
    assert config.train.attention == "reference"
    assert implementations(trainer.model) == {"reference"}
    assert taken == ["gpu", *seconds]
    resumed = trainer_of_heads()
    measure.usable_attention(config, resumed.model, torch.device("cpu"), pytest.fail)
    assert measure.accelerate(resumed, config, World(), pytest.fail) == config
    assert implementations(resumed.model) == {"reference"}
    assert taken == ["gpu", *seconds]


@pytest.mark.parametrize("able", [[], ["library"], ["gpu", "library_cudnn"]])
def test_processes_train_by_one_attention(able: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the first, whatever this one was able to do; and all of them ask, or the first would wait."""
    monkeypatch.setattr(measure, "_seconds_of_passes", lambda *_: 1.0)
    monkeypatch.setattr(measure, "to_try", lambda *_: able)
    firsts = get_args(Implementation).index("library_flash")
    world: Any = SimpleNamespace(size=1, first=lambda number, device: firsts)
    trainer = trainer_of_heads()
    config = measure.fastest_attention(trainer, RunConfig(), world)
    assert config.train.attention == "library_flash"
    assert implementations(trainer.model) == {"library_flash"}


@pytest.mark.parametrize("name", ["library_cudnn", "library_flash"])
def test_attention_that_cannot_train_is_an_error_and_on_resume_auto(name: Any) -> None:
    """library_flash has no dropout on a CPU, and says so itself."""
    trainer, said = trainer_of_heads(), list[str]()
    config = RunConfig(model=GPTConfig(vocab_size=5, pattern_dropout=0.1), train=TrainConfig(attention=name))
    why = f"train.attention={name} cannot train this model here"
    cpu = torch.device("cpu")
    with pytest.raises(SurroundingsError, match="cuda" if name == "library_cudnn" else "dropout") as raised:
        measure.usable_attention(config, trainer.model, cpu)
    assert raised.value.cause.startswith(why)
    measure.usable_attention(config, trainer.model, cpu, said.append)
    assert implementations(trainer.model) == {"auto"}
    (text,) = said
    assert text.startswith(why)
    assert text.endswith("going on with auto")


@pytest.mark.parametrize("name", ["reference", "tiled", "cpu", "library"])
def test_attention_that_can_train_is_what_trains(name: Any) -> None:
    trainer, config = trainer_of_heads(), RunConfig(train=TrainConfig(attention=name))
    measure.usable_attention(config, trainer.model, torch.device("cpu"))
    assert implementations(trainer.model) == {name}


def test_a_run_is_trained_and_resumed_by_the_attention_it_names(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []
    attention = rooms.attention

    def watched(*tensors: Any, implementation: str, **how: Any) -> Any:
        asked.append((implementation, torch.is_grad_enabled()))
        return attention(*tensors, implementation=implementation, **how)

    monkeypatch.setattr(rooms, "attention", watched)
    flags = {**TINY, "data.source": str(text_file), "train.attention": "tiled"}
    run = primer.train("default", flags=flags, runs_dir=tmp_path / "runs")
    assert {name for name, trained in asked if trained} == {"tiled"}
    asked.clear()
    resumed = primer.resume(run, flags={"train.steps": 5})
    assert {name for name, trained in asked if trained} == {"tiled"}
    assert resumed.config.train.attention == "tiled"
    with pytest.raises(SurroundingsError, match="it is for cuda"):
        primer.resume(run, flags={"train.steps": 6, "train.attention": "gpu"})
    toml = run.path / "config.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace('"tiled"', '"gpu"'), encoding="utf-8")
    asked.clear()
    moved = primer.resume(run, flags={"train.steps": 6})
    assert {name for name, trained in asked if trained} == {"auto"}
    assert moved.config.train.attention == "gpu", "another device forgot what was chosen for the first"


def test_the_names_of_attention_are_the_operators() -> None:
    assert get_args(Attention) == get_args(Implementation)


@pytest.mark.parametrize(("compiled_takes", "kept"), [(0.5, True), (1.0, False), (2.0, False)])
def test_compiling_must_pay(compiled_takes: float, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled model that is no faster is put aside with a word; one that is asked for stays."""
    trainer: Any = SimpleNamespace(model="plain")
    monkeypatch.setattr(torch, "compile", lambda model: f"compiled {model}")
    seconds = {"plain": 1.0, "compiled plain": compiled_takes}
    monkeypatch.setattr(measure, "_seconds_of_passes", lambda trainer, forward: seconds[forward])
    said: list[str] = []
    found = measure.compiled_model(trainer, must_pay=True, tell=said.append)
    assert found == ("compiled plain" if kept else None)
    assert [text for text in said if "no faster" in text] == said
    assert bool(said) != kept
    assert measure.compiled_model(trainer, must_pay=False, tell=said.append) == "compiled plain"


def test_compiling_is_not_tried_unasked_on_a_cpu(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(model: torch.nn.Module) -> Any:
        raise AssertionError("tried")

    monkeypatch.setattr(torch, "compile", never)
    run = primer.train(text_file, flags={**TINY, "train.compile": "auto"}, runs_dir=tmp_path)
    assert run.config.train.compile == "off"


def test_what_was_measured_is_kept_when_a_run_goes_on(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The micro-batch and the threads: both decide the last bits."""
    flags = {**TINY, "train.batch_size": 512, "train.micro_batch": 0, "train.threads": 0}
    monkeypatch.setattr(measure._MicroTrainer, "seconds_a_row", lambda self, rows: abs(rows - 128) * 1e-6)
    run = primer.train(text_file, flags=flags, runs_dir=tmp_path)
    assert (run.config.train.micro_batch, run.config.train.threads) == (128, 1)
    monkeypatch.setattr(measure._MicroTrainer, "seconds_a_row", lambda self, rows: abs(rows - 64) * 1e-6)
    torch.set_num_threads(2)
    try:
        resumed = primer.resume(run, flags={"train.steps": 4})
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)
    assert (resumed.config.train.micro_batch, resumed.config.train.threads) == (128, 1)


def test_a_small_batch_is_not_measured() -> None:
    model = GPT(GPTConfig(vocab_size=5, d_model=8, n_layers=1, n_heads=1, context_length=16))
    config = RunConfig(model=model.config, train=TrainConfig(batch_size=8, device="cpu"))
    assert choose_micro_batch(config, model, World()) == 8
    assert choose_micro_batch(config, model, World(size=2)) == 4


def test_a_slow_machine_is_not_asked_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a second each: two and four are tried, eight would not be worth its wait; the fastest is taken."""
    asked: list[int] = []

    def seconds(self: object, rows: int) -> float:
        asked.append(rows)
        return {2: 1.1, 4: 1.2}[rows]

    monkeypatch.setattr(measure._MicroTrainer, "seconds_a_row", seconds)
    model = GPT(GPTConfig(vocab_size=5, d_model=8, n_layers=1, n_heads=1, context_length=512))
    config = RunConfig(model=model.config, train=TrainConfig(batch_size=16, device="cpu"))
    assert choose_micro_batch(config, model, World()) == 2
    assert asked == [2, 4, 2, 4]


def test_each_micro_batch_has_a_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """In turns: a pause of the machine, or fresh memory, decides nothing."""
    times = {2: [0.9, 0.2], 4: [0.3, 0.8], 8: [0.4, 0.4], 16: [0.5, 0.4]}
    monkeypatch.setattr(measure._MicroTrainer, "seconds_a_row", lambda self, rows: times[rows].pop(0))
    model = GPT(GPTConfig(vocab_size=5, d_model=8, n_layers=1, n_heads=1, context_length=512))
    config = RunConfig(model=model.config, train=TrainConfig(batch_size=16, device="cpu"))
    assert choose_micro_batch(config, model, World()) == 2


def test_no_micro_batch_is_tried_that_does_not_fit() -> None:
    """GPT-2's widths, 512 rows of 1,024 tokens: 16 GB hold some of them, 1 GB none, and one is tried all the same."""
    config = resolve("gpt2-124m", flags={"model.vocab_size": 50304, "train.device": "cpu"}).config
    assert candidates(config, 512, memory=1 << 50) == [1 << k for k in range(10)]
    some = candidates(config, 512, memory=16 << 30)
    assert some[0] == 1
    assert 4 <= some[-1] < 64
    assert all(training_bytes(config, n, "cpu").total < 16 << 30 for n in some)
    assert candidates(config, 512, memory=1 << 30) == [1]
    assert candidates(config, 512, 16 << 30, "cuda")[-1] < some[-1]  # where all logits are held


def test_a_gpu_takes_the_most_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimate proposes; what then runs out of memory is given up for the next smaller one."""
    model = GPT(GPTConfig(vocab_size=5, d_model=8, n_layers=1, n_heads=1, context_length=16))
    config = RunConfig(model=model.config, train=TrainConfig(batch_size=64, device="cpu"))
    tried: list[int] = []

    def run(self: object, rows: int) -> None:
        tried.append(rows)
        if rows > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(measure._MicroTrainer, "run", run)
    trainer = measure._MicroTrainer(config, model)
    assert trainer.largest([4, 8, 16, 32]) == 8
    assert tried == [32, 16, 8]
    assert (
        trainer.largest([16, 32]) == 16
    )  # nothing fits: the error comes from training, where it is explained


def test_a_model_that_no_memory_here_holds_is_refused_before_anything_is_written(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {key: value for key, value in TINY.items() if key != "train.parallel"}
    config = resolve(text_file, flags={**flags, "model.vocab_size": 100}).config
    needed = training_bytes(config, 0, "cpu").total
    cpu = torch.device("cpu")
    monkeypatch.setattr(measure.devices, "all_memory", lambda device: int(needed / 0.99))
    with pytest.raises(SurroundingsError, match="for its weights, gradients and optimizer alone"):
        measure.require_memory(config, cpu, World())
    monkeypatch.setattr(measure.devices, "all_memory", lambda device: int(needed / 0.9))
    measure.require_memory(config, cpu, World())
    with pytest.raises(SurroundingsError, match="for its weights, gradients and optimizer alone"):
        measure.require_memory(config, cpu, World(0, 2, local_size=2))
    sharded = resolve(text_file, flags={**flags, "model.vocab_size": 100, "train.parallel": "fsdp"}).config
    measure.require_memory(sharded, cpu, World(0, 2, local_size=2))
    monkeypatch.setattr(measure.devices, "all_memory", lambda device: 0)
    measure.require_memory(config, cpu, World())
    monkeypatch.setattr(measure.devices, "all_memory", lambda device: 1000)
    with pytest.raises(SurroundingsError):
        primer.train(text_file, flags=TINY, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
