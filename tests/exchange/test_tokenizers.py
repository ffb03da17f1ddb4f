"""Tokenizers in Hugging Face's files, with the `tokenizers` and `transformers` libraries as judges."""

import contextlib
import copy
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from bpe_setup import PIECES, PROSE, small, texts
from primer.errors import DataError
from primer.exchange.tokenizers import (
    from_tokenizer_json,
    read_tokenizer,
    to_config,
    to_tokenizer_json,
    write_tokenizer,
)
from primer.tokens import BPETokenizer
from primer.tokens.gpt2 import gpt2
from primer.tokens.patterns import PATTERNS

settings.load_profile("ci")  # the same examples every time, and none of them timed


@cache
def special_one(pattern: Any) -> BPETokenizer:
    names = ("<|endoftext|>", "<|user|>", "<|user|><|end|>")
    return BPETokenizer.train([PROSE], 420, pattern=pattern, special_tokens=names)


@cache
def theirs(pattern: Any) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(to_tokenizer_json(special_one(pattern))))


@pytest.mark.parametrize("pattern", list(PATTERNS))
@given(text=texts(newest=False))
def test_the_tokenizers_library_gives_the_same_ids(pattern: Any, text: str) -> None:
    ids = special_one(pattern).encode(text).tolist()
    assert theirs(pattern).encode(text).ids == ids
    assert theirs(pattern).decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("pattern", list(PATTERNS))
@given(
    text=st.lists(st.sampled_from(["<|endoftext|>", "<|user|>", "<|end|>", "<|", "|>", *PIECES])).map("".join)
)
def test_and_the_same_special_tokens(pattern: Any, text: str) -> None:
    judge = theirs(pattern)
    assert judge.encode(text).ids == special_one(pattern).encode(text, special="allow").tolist()
    judge.encode_special_tokens = True  # which takes them for text
    try:
        assert judge.encode(text).ids == special_one(pattern).encode(text, special="text").tolist()
    finally:
        judge.encode_special_tokens = False


@given(texts(newest=False))
def test_gpt2_keeps_its_ids(hf_gpt2: tokenizers.Tokenizer, text: str) -> None:
    assert hf_gpt2.encode(text).ids == loaded_gpt2().encode(text).tolist()


@cache
def loaded_gpt2() -> BPETokenizer:
    return gpt2(download=False)


@pytest.fixture(scope="module")
def hf_gpt2(gpt2_folder: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(to_tokenizer_json(loaded_gpt2())))


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2's two files under the names that Hugging Face gives them."""
    if "PRIMER_DATA" not in os.environ:
        pytest.skip("PRIMER_DATA does not name a folder of real data")
    folder = tmp_path_factory.mktemp("gpt2")
    shutil.copy(Path(os.environ["PRIMER_DATA"], "gpt2/encoder.json"), folder / "vocab.json")
    shutil.copy(Path(os.environ["PRIMER_DATA"], "gpt2/vocab.bpe"), folder / "merges.txt")
    return folder


def test_gpt2s_two_files_are_the_published_ones(gpt2_folder: Path, tmp_path: Path) -> None:
    write_tokenizer(loaded_gpt2(), tmp_path)
    assert (tmp_path / "merges.txt").read_bytes() == (gpt2_folder / "merges.txt").read_bytes()
    written, published = (json.loads((each / "vocab.json").read_bytes()) for each in (tmp_path, gpt2_folder))
    assert list(written.items()) == list(published.items())
    assert read_tokenizer(gpt2_folder).fingerprint == loaded_gpt2().fingerprint


def test_what_transformers_saves_of_gpt2_is_read(gpt2_folder: Path, tmp_path: Path) -> None:
    transformers.GPT2TokenizerFast.from_pretrained(gpt2_folder).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    assert read_tokenizer(tmp_path).fingerprint == loaded_gpt2().fingerprint


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_transformers_loads_what_was_written(pattern: Any, tmp_path: Path) -> None:
    tokenizer = special_one(pattern)
    write_tokenizer(tokenizer, tmp_path)
    judge = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = PROSE + "<|endoftext|><|user|><|end|>" + "it's 12345 o'clock  \n\n" + PROSE
    ids = tokenizer.encode(text, special="allow").tolist()
    assert judge(text)["input_ids"] == ids
    assert judge.decode(ids) == text
    assert judge.eos_token_id == judge.bos_token_id == tokenizer.special_tokens["<|endoftext|>"]
    assert len(judge) == tokenizer.vocab_size


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_a_tokenizer_comes_back_from_either_kind_of_files(pattern: Any, tmp_path: Path) -> None:
    for tokenizer in (special_one(pattern), BPETokenizer([], pattern=pattern), small(pattern)):
        write_tokenizer(tokenizer, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"]
        )
        assert read_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint
        (tmp_path / "tokenizer.json").unlink()
        assert read_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_what_the_tokenizers_library_saves_is_read(pattern: Any, tmp_path: Path) -> None:
    theirs(pattern).save(str(tmp_path / "tokenizer.json"))  # which writes merges as pairs
    assert read_tokenizer(tmp_path).fingerprint == special_one(pattern).fingerprint


def test_one_that_the_tokenizers_library_learned_is_read(tmp_path: Path) -> None:
    learner = tokenizers.ByteLevelBPETokenizer()
    learner.train_from_iterator([PROSE], 400, show_progress=False)
    learner.save(str(tmp_path / "tokenizer.json"))
    mine = read_tokenizer(tmp_path)
    text = "the lowest newest it's 12  wide\n"
    assert mine.encode(text).tolist() == learner.encode(text).ids
    assert mine.order != bytes(range(256))


def test_tokens_that_were_added_beside_the_vocabulary_are_read(gpt2_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(gpt2_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|user|>": 50257}))
    assert dict(read_tokenizer(tmp_path).special_tokens) == {"<|endoftext|>": 50256, "<|user|>": 50257}


def test_the_config_says_what_the_special_tokens_are_for() -> None:
    assert to_config(small("gpt2"))["eos_token"] == "<|endoftext|>"
    assert "eos_token" not in to_config(BPETokenizer([]))
    assert to_config(small("gpt2"))["tokenizer_class"] == "GPT2Tokenizer"
    assert (
        to_config(small("gpt4"))["tokenizer_class"] == "PreTrainedTokenizerFast"
    )  # GPT2Tokenizer would resplit


def test_a_special_token_that_is_spelled_like_another_is_refused(tmp_path: Path) -> None:
    """The library would take `the` for the ordinary token."""
    tokenizer = BPETokenizer([(116, 104)], special_tokens={"th": 257})
    with pytest.raises(DataError, match="'th' is written like the ordinary token 256"):
        write_tokenizer(tokenizer, tmp_path / "new")
    assert not (tmp_path / "new").exists()


GOOD = to_tokenizer_json(BPETokenizer([(116, 104)], pattern="gpt4", special_tokens={"<|e|>": 257}))


def changed(path: str, value: Any) -> dict[str, Any]:
    """`GOOD` with another value at a dotted path."""
    fields = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    part: Any = fields
    for name in parents:
        part = part[int(name) if name.isdigit() else name]
    part[int(last) if last.isdigit() else last] = value
    return fields


WORD_PIECE = {"type": "WordPiece", "vocab": {}}
ADDS = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("model", None, "model: None is not BPE"),
        ("model.type", "WordPiece", "model: 'WordPiece' is not BPE"),
        ("model.dropout", 0.1, "model.dropout: 0.1"),
        ("model.continuing_subword_prefix", "##", "model.continuing_subword_prefix: '##'"),
        ("model.end_of_word_suffix", "</w>", "model.end_of_word_suffix"),
        ("model.vocab", [], "model: no vocab with merges"),
        ("model.vocab.th", "256", "whole number"),
        ("model.vocab.th", 300, "merge 0, 'th', should have the id 256"),
        ("model.merges", ["t  h"], "is not of two tokens"),
        ("model.merges", [["t", 3]], "must be two tokens"),
        ("model.merges", ["t q"], "should have the id 256"),
        ("model.vocab.a", 1000, "first 256 ids"),
        ("model.vocab.extra", 258, "'extra', id 258, is neither a byte, nor a merge, nor special"),
        ("normalizer", {"type": "NFC"}, "normalizer: NFC"),
        ("truncation", {"max_length": 512}, "truncation"),
        ("padding", {"strategy": "BatchLongest"}, "padding"),
        ("post_processor", ADDS, "post_processor: TemplateProcessing adds tokens"),
        ("post_processor", {"type": "BertProcessing"}, "post_processor: BertProcessing"),
        ("post_processor", {"type": "Sequence", "processors": [{"type": "ByteLevel"}, ADDS]}, "post_processor"),
        ("pre_tokenizer", None, "pre_tokenizer"),
        ("pre_tokenizer", {"type": "Metaspace"}, "pre_tokenizer: Metaspace"),
        ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True}, "add_prefix_space"),
        ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}, "no Split"),
        ("pre_tokenizer.pretokenizers.0.pattern.Regex", r"\w+", "splits by"),
        ("pre_tokenizer.pretokenizers.0.pattern", {"String": " "}, "splits by None"),
        ("pre_tokenizer.pretokenizers.0.behavior", "Removed", "splits by"),
        ("pre_tokenizer.pretokenizers.1.use_regex", True, "what was split before"),
        ("pre_tokenizer.pretokenizers.0.type", "Digits", "no Split"),
        ("added_tokens.0.lstrip", True, "added_tokens: '<|e|>' is lstrip"),
        ("added_tokens.0.special", False, "added_tokens: '<|e|>' stands for text"),
        ("added_tokens.0.id", 300, "is neither a byte"),
        ("added_tokens.0.content", 3, "added_tokens: no content"),
        ("added_tokens", 3, "added_tokens: no content"),
        ("added_tokens", [], "'<|e|>', id 257, is neither"),
    ],
)  # fmt: skip
def test_what_we_cannot_do_is_refused_and_the_part_is_named(path: str, value: Any, said: str) -> None:
    assert from_tokenizer_json(GOOD).vocab_size == 258
    with pytest.raises(DataError) as caught:
        from_tokenizer_json(changed(path, value), where="x/tokenizer.json")
    assert said in caught.value.cause
    assert caught.value.where == "x/tokenizer.json"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.type", "BPE"),
        ("model.ignore_merges", True),
        ("model.unk_token", "<|e|>"),
        ("model.byte_fallback", True),
        ("post_processor", {"type": "ByteLevel", "trim_offsets": False}),
        (
            "post_processor",
            {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}]},
        ),
        ("post_processor", {"type": "Sequence", "processors": [{"type": "ByteLevel"}]}),
        ("added_tokens.0.normalized", True),
    ],
)
@given(text=texts(newest=False))
def test_what_changes_no_ids_is_no_reason_to_refuse(path: str, value: Any, text: str) -> None:
    """And the library agrees that it changes none."""
    fields = changed(path, value)
    if path.startswith("model"):
        judge = tokenizers.Tokenizer.from_str(json.dumps(fields))
        assert judge.encode(text).ids == from_tokenizer_json(fields).encode(text).tolist()
    assert from_tokenizer_json(fields).fingerprint == from_tokenizer_json(GOOD).fingerprint


@given(texts(newest=False))
def test_a_split_that_removes_what_does_not_match_is_the_same(text: str) -> None:
    fields = changed("pre_tokenizer.pretokenizers.0.behavior", "Removed")
    fields["pre_tokenizer"]["pretokenizers"][0]["invert"] = True
    judge = tokenizers.Tokenizer.from_str(json.dumps(fields))
    assert judge.encode(text).ids == from_tokenizer_json(fields).encode(text).tolist()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", b"{", "no JSON"),
        ("tokenizer.json", b"[" * 100_000, "no JSON"),
        ("tokenizer.json", b"[]", "JSON is no object"),
        ("tokenizer.json", b"\xff", "not UTF-8"),
        ("vocab.json", b'{"a": "b"}', "whole number"),
        ("merges.txt", b"#version: 0.2 - pattern: gpt9\n", "no pattern 'gpt9'"),
        ("merges.txt", b"#version: 0.2\nt  h\n", "not of two tokens"),
        ("merges.txt", b"t h\nh t\n", "merge 1"),
        ("added_tokens.json", b'{"<a>": 400}', "must be 257 to 258"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    folder = tmp_path
    write_tokenizer(from_tokenizer_json(GOOD), folder)
    if name != "tokenizer.json":
        (folder / "tokenizer.json").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_tokenizer(folder)
    assert str(folder) in str(caught.value.where)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "id", "x"]), inner),
)


@settings(max_examples=500)
@given(st.data())
def test_whatever_stands_in_a_file_is_read_or_refused_in_our_words(data: st.DataObject) -> None:
    fields: Any = copy.deepcopy(GOOD)
    fields["post_processor"] = {"type": "Sequence", "processors": [copy.deepcopy(ADDS)]}
    if data.draw(st.booleans()):
        fields["post_processor"] = {"type": "TemplateProcessing", "single": [{"Sequence": {}}]}
    part = fields
    while True:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(part[key], (dict, list)) or not part[key] or data.draw(st.integers(0, 3)) == 0:
            part[key] = data.draw(values)
            break
        part = part[key]
    with contextlib.suppress(DataError):
        from_tokenizer_json(fields)


def test_a_folder_without_a_tokenizer_is_no_folder_of_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="no tokenizer here"):
            read_tokenizer(folder)


def test_writing_needs_neither_torch_nor_any_of_their_libraries(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('tokenizers', 'transformers', 'tiktoken', 'rustbpe', 'torch'): sys.modules[name] = None\n"
        "from primer.exchange.tokenizers import write_tokenizer, read_tokenizer\n"
        "from primer.tokens import BPETokenizer\n"
        "write_tokenizer(BPETokenizer([(116, 104)]), sys.argv[1])\n"
        "assert read_tokenizer(sys.argv[1]).encode('the').tolist() == [256, 101]\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
