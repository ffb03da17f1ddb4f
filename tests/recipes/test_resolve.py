from pathlib import Path

import pytest

from primer.config import from_dict, to_toml
from primer.errors import DataError, PrimerError, UsageError
from primer.recipes.config import RunConfig
from primer.recipes.resolve import recipes, resolve


@pytest.fixture
def write(tmp_path: Path):
    def writer(content: str | bytes, name: str = "mine.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return writer


def test_the_default_comes_first() -> None:
    assert recipes()[0] == "default"
    assert {"default", "lecture", "shakespeare", "shakespeare-fast"} <= set(recipes())


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_says_what_it_is_for(name: str) -> None:
    config = resolve(name).config
    assert config.recipe == name
    assert 20 <= len(config.about) <= 110


def test_the_lecture_has_its_own_hyper_parameters() -> None:
    config = resolve("lecture").config
    model, optim, train = config.model, config.optim, config.train
    assert (model.n_layers, model.n_heads, model.d_model, model.context_length) == (4, 4, 384, 256)
    assert (model.pattern_dropout, model.feed_forward_dropout) == (0.2, 0.2)
    assert (model.embedding_dropout, model.attention_dropout) == (0.0, 0.0)
    assert (model.bias, model.has_qkv_bias, model.head_bias) == (True, False, True)
    assert (model.attention_scale, model.attention_output, model.init) == ("d_model", False, "torch")
    assert (model.norm, model.norm_type, model.positions, model.activation) == (
        "pre",
        "layernorm",
        "learned",
        "relu",
    )
    assert (optim.lr, optim.betas, optim.eps, optim.weight_decay) == (3e-4, (0.9, 0.999), 1e-8, 0.01)
    assert (optim.decay_all, optim.clip) == (True, 0.0)
    assert (config.schedule.shape, config.schedule.warmup) == ("constant", 0)
    assert (train.steps, train.batch_size, train.evaluate_every, train.evaluate_batches) == (
        5000,
        64,
        500,
        200,
    )
    assert (config.data.order, config.data.source, config.seed) == ("random", "shakespeare", 1337)


def test_defaults_recipe_file_flags(write) -> None:
    path = write("[train]\nsteps = 7000\nbatch_size = 8\n")
    resolved = resolve("lecture", file=path, flags={"train.batch_size": 4, "model.n_layers": 2})
    config, origins = resolved.config, resolved.origins
    assert (config.train.steps, config.train.batch_size, config.model.n_layers) == (7000, 4, 2)
    assert origins["train.steps"] == str(path)
    assert origins["train.batch_size"] == origins["model.n_layers"] == "flag"
    assert origins["model.d_model"] == "recipe lecture"
    assert origins["train.keep"] == "default"


def test_a_text_trains_the_default_recipe(tmp_path: Path) -> None:
    text = tmp_path / "my text.txt"
    text.write_text("hello")
    for target in (text, str(text), tmp_path):
        resolved = resolve(target)
        assert resolved.config.data.source == str(Path(target).resolve())
        assert resolved.config.recipe == "default"
        assert resolved.origins["data.source"] == "text"
        assert resolved.config.model == resolve("default").config.model


def test_a_recipe_wins_over_a_folder_of_its_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lecture").mkdir()
    assert resolve("lecture").config.data.source == "shakespeare"
    assert resolve("./lecture").config.data.source == str((tmp_path / "lecture").resolve())


def test_a_file_is_a_recipe_of_its_own(write) -> None:
    config = resolve(write("[model]\nn_layers = 2\n")).config
    assert config.recipe == "mine"
    assert config.model.n_layers == 2
    assert config.model.d_model == RunConfig().model.d_model


def test_a_file_may_build_on_a_recipe_or_a_file(write) -> None:
    write('base = "lecture"\n[train]\nsteps = 9\n', "middle.toml")
    top = write('base = "middle.toml"\nabout = "mine"\n[train]\nbatch_size = 2\n', "top.toml")
    resolved = resolve(top)
    assert resolved.config.recipe == "top"
    assert resolved.config.about == "mine"
    assert (resolved.config.train.steps, resolved.config.train.batch_size) == (9, 2)
    assert resolved.config.model == resolve("lecture").config.model
    assert resolved.origins["train.steps"].endswith("middle.toml")


def test_a_saved_config_gives_the_same_run(write) -> None:
    config = resolve("lecture", flags={"model.qkv_bias": None}).config
    assert resolve(write(to_toml(config), "config.toml")).config == config
    assert from_dict(RunConfig, {}) == RunConfig()


@pytest.mark.parametrize(
    ("content", "cause", "where"),
    [
        ("[train]\nstesp = 3\n", "unknown key train.stesp", "mine.toml"),
        ("[train]\nsteps = '3'\n", "train.steps must be a whole number, got '3'", "mine.toml"),
        ("[train]\nsteps = 1\nsteps = 2\n", "not valid TOML", "mine.toml, line 3"),
        ("[train]\nsteps = \n", "not valid TOML", "mine.toml, line 2"),
        ("[train\n", "not valid TOML", "mine.toml, line 1"),
        ('a = """\nnever closed', "not valid TOML", "mine.toml, line 2"),
        (b"[train]\nabout = '\xff'\n", "not UTF-8: byte 0xff at offset 17", "mine.toml, line 2"),
        ("about = 'x'\n".encode("utf-16"), "not UTF-8: byte 0xff at offset 0", "mine.toml, line 1"),
        ("a = " + "[" * 100_000, "not ", "mine.toml"),
        ("#" * (1 << 21), "too large", None),
        ('base = "lectrue"\n', "unknown base 'lectrue'", "mine.toml"),
        ('base = "mine.toml"\n', "a recipe is its own base", "mine.toml"),
        ("base = 3\n", "base must be", "mine.toml"),
        ("[optim]\nlr = nan\n", "optim.lr must be a finite number", "mine.toml"),
        ("[optim]\nlr = -1.0\n", "optim.lr must be a positive number", None),
        ("[optim]\nlr = 0\n", "optim.lr must be a positive number", None),
        ("[train]\nbatch_size = 0\n", "train.batch_size must be at least 1", None),
        ("[train]\nsteps = 5\n[schedule]\nwarmup = 6\n", "schedule.warmup=6 is longer than the run", None),
        ("[model]\nn_heads = 3\n", "model.d_model=128 does not divide by model.n_heads=3", None),
    ],
)
def test_bad_files_are_refused_with_their_line(write, content, cause: str, where: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(write(content))
    assert cause in caught.value.cause
    if where:
        assert caught.value.where.endswith(where) or where in caught.value.where


def test_a_byte_order_mark_is_no_mistake(write) -> None:
    assert resolve(write("\ufeff[train]\nsteps = 300\n")).config.train.steps == 300


@pytest.mark.parametrize(
    ("target", "error", "hint"),
    [
        ("shakespear", UsageError, "primer train shakespeare"),
        ("zzzz", UsageError, "one of default"),
        ("a whole text " * 100, UsageError, "primer train FILE"),
        ("missing.txt", DataError, "a path"),
        ("missing.toml", DataError, None),
        ("some/folder", DataError, "a path"),
    ],
)
def test_what_is_no_recipe_and_no_path(target: str, error: type[PrimerError], hint: str | None) -> None:
    with pytest.raises(error) as caught:
        resolve(target)
    if hint:
        assert caught.value.hint.startswith(hint)


def test_a_bad_flag_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown key train\.stesp") as caught:
        resolve("lecture", flags={"train.stesp": 3})
    assert caught.value.where == "flag"
    assert caught.value.hint == "train.steps"


def test_a_short_run_has_a_short_warmup_unless_one_was_asked_for() -> None:
    recipe = resolve("shakespeare").config.schedule.warmup
    assert 11 < recipe <= 100
    short = resolve("shakespeare", flags={"train.steps": 110})
    assert short.config.schedule.warmup == 11
    assert "tenth" in short.origins["schedule.warmup"]
    assert resolve("shakespeare", flags={"train.steps": 1000}).config.schedule.warmup == recipe
    asked = {"train.steps": 110, "schedule.warmup": recipe}
    assert resolve("shakespeare", flags=asked).config.schedule.warmup == recipe
    with pytest.raises(UsageError, match="longer than the run"):
        resolve("shakespeare", flags={"train.steps": 3, "schedule.warmup": 4})


def test_an_empty_name_is_not_the_folder_that_one_stands_in() -> None:
    with pytest.raises(UsageError, match="empty name"):
        resolve("")


def test_a_text_named_by_a_flag_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    for flags in ({"data.source": "mine.txt"}, {"data": {"source": Path("mine.txt")}}):
        assert resolve("shakespeare", flags=flags).config.data.source == str(tmp_path / "mine.txt")
    assert resolve("lecture", flags={"data.source": "python-docs"}).config.data.source == "python-docs"


def test_a_size_that_was_mistyped_is_refused_before_anything_is_counted_with_it() -> None:
    with pytest.raises(UsageError, match=r"model\.d_model must be at most"):
        resolve("default", flags={"model.d_model": 10**15 + 1})


@pytest.fixture
def with_gpt2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe that presets rest on, in so far as these tests look at it."""
    from primer.recipes import resolve as module

    shipped = module._shipped
    values = {
        "about": "GPT-2, the smallest one, trained again",
        "model": {"vocab_size": 50304, "n_layers": 12, "n_heads": 12, "d_model": 768, "context_length": 1024},
        "train": {"steps": 19_073},
    }

    def of(name: str) -> list[module.Layer]:
        return [("recipe gpt2-124m", {"recipe": name, **values})] if name == "gpt2-124m" else shipped(name)

    monkeypatch.setattr(module, "_shipped", of)


@pytest.mark.usefixtures("with_gpt2")
def test_a_preset_is_the_recipe_of_gpt2_in_another_size(write) -> None:
    resolved = resolve("gpt2-xl", flags={"train.batch_size": 4})
    config, origins = resolved.config, resolved.origins
    assert (config.recipe, config.train.steps, config.train.batch_size) == ("gpt2-xl", 19_073, 4)
    assert (config.model.n_layers, config.model.n_heads, config.model.d_model) == (48, 25, 1600)
    assert (config.model.vocab_size, config.model.context_length) == (50304, 1024)
    assert "gpt2-xl" in config.about
    assert origins["model.d_model"] == "preset gpt2-xl"
    assert origins["train.steps"] == "recipe gpt2-124m"
    assert resolve(write('base = "gpt2-medium"\n[train]\nsteps = 7000\n')).config.model.d_model == 1024
    assert resolve("gpt2").config.model.n_layers == 12


def test_a_misspelt_preset_is_recognised() -> None:
    with pytest.raises(UsageError) as caught:
        resolve("gpt2-mediun")
    assert caught.value.hint == "primer train gpt2-medium"


def test_a_file_of_pairs_as_a_text_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, mentioned in (("pairs.tsv", True), ("de.po.gz", True), ("my.txt", False), ("my.jsonl", False)):
        caplog.clear()
        (tmp_path / name).touch()
        assert resolve(tmp_path / name).config.data.source == str(tmp_path / name)
        assert ("primer train translation --data.source=" in caplog.text) == mentioned, name
