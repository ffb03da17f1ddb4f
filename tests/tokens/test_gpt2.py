"""GPT-2's tokenizer against tiktoken's and the `tokenizers` library's, both made from the same local files."""

import gzip
import json
import os
import shutil
from functools import cache
from pathlib import Path

import pytest
import tiktoken
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

from bpe_setup import PIECES, texts
from primer import assets, tokens
from primer.errors import DataError, SurroundingsError
from primer.tokens.gpt2 import ENCODER, MERGES, from_spellings, gpt2, spelled, spelling


@cache
def published(folder: Path) -> tiktoken.Encoding:
    """tiktoken's own definition of gpt2, with local files instead of its downloads."""
    from tiktoken_ext import openai_public

    ranks = data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"), str(folder / "encoder.json"))
    return tiktoken.Encoding(
        "gpt2",
        pat_str=openai_public.r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": 50256},
        explicit_n_vocab=50257,
    )


@cache
def ours(way: str = "fast"):
    return gpt2(download=False, implementation=way)


@pytest.fixture(scope="module")
def folder() -> Path:
    if "PRIMER_DATA" not in os.environ:
        pytest.skip("PRIMER_DATA does not name a folder of real data")
    return Path(os.environ["PRIMER_DATA"], "gpt2")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory):
    """The `transformers` library's GPT-2 tokenizer, from the same files."""

    @cache
    def loaded(folder: Path):
        copy = tmp_path_factory.mktemp("hf")
        shutil.copy(folder / "encoder.json", copy / "vocab.json")
        shutil.copy(folder / "vocab.bpe", copy / "merges.txt")
        return transformers.GPT2TokenizerFast.from_pretrained(copy)

    return loaded


def test_the_vocabulary_is_the_published_one(folder):
    tokenizer = tokens.open_tokenizer("gpt2")
    judge = published(folder)
    assert tokenizer.name == "bpe"
    assert tokenizer.vocab_size == judge.n_vocab == 50257
    assert dict(tokenizer.special_tokens) == {"<|endoftext|>": 50256}
    assert [tokenizer.token_bytes(n) for n in range(50256)] == [
        judge.decode_single_token_bytes(n) for n in range(50256)
    ]
    assert tokenizer.dtype == "uint16"
    assert tokenizer.fingerprint == ours("readable").fingerprint
    assert tokens.from_json(tokenizer.to_json()).fingerprint == tokenizer.fingerprint


def test_the_figures_that_are_known_by_heart(folder):
    assert ours().encode("hello world").tolist() == [31373, 995]  # tiktoken's README
    assert ours().encode("<|endoftext|>", special="allow").tolist() == [50256]
    assert ours().encode("<|endoftext|>", special="text").tolist() == [27, 91, 437, 1659, 5239, 91, 29]


@settings(max_examples=400)
@given(texts())
def test_any_text_has_the_ids_of_tiktoken(folder, text):
    ids = ours().encode(text).tolist()
    assert ids == published(folder).encode_ordinary(text)
    assert ours().decode(ids) == text


@settings(max_examples=400)
@given(texts(newest=False))
def test_so_it_has_in_plain_python(folder, text):
    assert ours("readable").encode(text).tolist() == published(folder).encode_ordinary(text)


@settings(max_examples=200)
@given(texts(newest=False))
def test_and_those_of_transformers(theirs, folder, text):
    assert ours("readable").encode(text).tolist() == theirs(folder)(text)["input_ids"]


@given(st.lists(st.sampled_from(["<|endoftext|>", "<|endoftext", "|>", *PIECES])).map("".join))
def test_special_tokens_are_those_of_both(theirs, folder, text):
    ids = ours().encode(text, special="allow").tolist()
    assert ids == published(folder).encode(text, allowed_special="all")
    assert ids == theirs(folder)(text)["input_ids"]
    assert ours("readable").encode(text, special="allow").tolist() == ids
    assert ours().decode(ids) == published(folder).decode(ids)


@given(st.lists(st.integers(0, 50256)))
def test_any_ids_are_read_as_tiktoken_reads_them(folder, ids):
    assert ours().decode_bytes(ids) == published(folder).decode_bytes(ids)
    assert ours().decode(ids) == published(folder).decode(ids)


@pytest.mark.parametrize("way", ["fast", "readable"])
def test_every_token_is_reached_by_its_own_bytes(folder, way):
    tokenizer = ours(way)
    wrong = [n for n, token in enumerate(tokenizer.tokens) if tokenizer._readable.chunk(token) != [n]]
    assert not wrong


def real_texts(data: Path) -> dict[str, str]:
    """Every text file among the real data."""
    found = {"shakespeare": (data / "shakespeare/input.txt").read_text(encoding="utf-8")}
    for path in sorted(data.glob("multi30k/*.gz")):
        found[path.name] = gzip.decompress(path.read_bytes()).decode()
    for path in sorted(data.glob("eval/*.jsonl")):
        found[path.name] = path.read_text(encoding="utf-8")
    return found


def test_all_real_texts_have_the_ids_of_tiktoken_and_come_back(real_data, folder):
    found = real_texts(real_data)
    assert len(found) > 10
    together = ours().encode_batch(list(found.values()), threads=2)
    for (name, text), ids in zip(found.items(), together, strict=True):
        assert ids.tolist() == published(folder).encode_ordinary(text), name
        assert ours().decode(ids) == text, name
        assert ours().byte_lengths[ids].sum() == len(text.encode()), name


def test_samples_of_them_have_in_plain_python(real_data, folder):
    for name, text in real_texts(real_data).items():
        for start in (0, len(text) // 2):
            sample = text[start : start + 20_000]
            expected = published(folder).encode_ordinary(sample)
            assert ours("readable").encode(sample).tolist() == expected, name


def test_bytes_are_spelled_as_in_the_published_files(folder):
    vocabulary = json.loads((folder / "encoder.json").read_bytes())
    assert [spelled(token) for token in ours().tokens] == list(vocabulary)[:50256]
    assert spelled(b" \n\x00\xff") == "ĠĊĀÿ"
    assert len(set(spelling().values())) == 256


def test_the_files_are_found_in_the_cache_and_damaged_ones_refused(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("PRIMER_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SurroundingsError, match=r"encoder\.json is not here") as caught:
        gpt2(download=False)
    assert "openaipublic" in caught.value.hint
    place = tmp_path / "primer/gpt2"
    shutil.copytree(folder, place)
    assert gpt2(download=False).fingerprint == ours().fingerprint
    assert [path.stat().st_size for path in map(assets.find, (ENCODER, MERGES))] == [
        ENCODER.size,
        MERGES.size,
    ]
    content = bytearray((place / "vocab.bpe").read_bytes())
    content[100_000] ^= 1
    (place / "vocab.bpe").write_bytes(content)
    with pytest.raises(DataError, match="SHA-256") as refused:
        gpt2(download=False)
    assert refused.value.where == str(place / "vocab.bpe")


LETTERS = {spelled(bytes([byte])): byte for byte in range(256)}


@pytest.mark.parametrize(
    ("vocabulary", "merges", "special", "said"),
    [
        ({**LETTERS, "a": 300}, [], None, "first 256 ids"),
        ({key: value for key, value in LETTERS.items() if key != "a"}, [], None, "first 256 ids"),
        ({**LETTERS, "ab": 256}, [["a", "c"]], None, "merge 0, 'ac', should have the id 256"),
        ({**LETTERS, "ab": 257}, [["a", "b"]], None, "merge 0, 'ab', should have the id 256"),
        ({**LETTERS, "ab": 256}, [["a", "bc"]], None, "is not of two tokens"),
        ({**LETTERS, "ab": 256}, [["a b"]], None, "is not of two tokens"),
        ({**LETTERS, "ab": 256}, [["a", "b", "a"]], None, "is not of two tokens"),
        ({**LETTERS, "ab": 256, "xy": 257}, [["a", "b"]], {"<a>": 258}, "'xy', id 257, is neither"),
        ({**LETTERS, "ab": 256, "xy": 5}, [["a", "b"]], {"<a>": 257}, "'xy', id 5, is neither"),
        ({**LETTERS, "ab": 256, "xy": 5}, [["a", "b"]], None, "must be 257 to 257"),
        ({**LETTERS, "ab": 256, "<a>": 258}, [["a", "b"]], None, "must be 257 to 257"),
    ],
)
def test_a_vocabulary_in_another_order_is_refused(vocabulary, merges, special, said):
    with pytest.raises(DataError, match=said):
        from_spellings(vocabulary, merges, pattern="gpt2", special=special)
