import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primer.corpus import readers, sources
from primer.data import prepare as room
from primer.data.prepare import prepare
from primer.errors import DataError, SurroundingsError, UsageError
from primer.tokens import ByteTokenizer, CharTokenizer

TEXT = "It is a truth universally acknowledged – that a text has an end.\n" * 20


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def splits(shards):
    """Both splits as text."""
    return [shards.tokenizer.decode(shards.tokens(split)[:]) for split in ("train", "validation")]


def test_the_split_is_the_lectures(text):
    shards = prepare(text)
    assert splits(shards) == [TEXT[: int(0.9 * len(TEXT))], TEXT[int(0.9 * len(TEXT)) :]]
    assert shards.tokenizer.characters == "".join(sorted(set(TEXT)))
    for split, part in zip(("train", "validation"), splits(shards), strict=True):
        expected = {"tokens": len(part), "characters": len(part), "bytes": len(part.encode()), "skipped": 0}
        assert shards.counts[split] == expected
    assert shards.source["name"] == "text.txt"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), min_size=20),
    fraction=st.sampled_from([0.1, 0.25, 0.5]),
    kind=st.sampled_from(["char", "byte"]),
    block=st.integers(4, 64),
)
def test_any_text_comes_back_from_its_shards(tmp_path_factory, text, fraction, kind, block):
    text = "ab" + text
    path = tmp_path_factory.mktemp("any") / "any.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "BLOCK", block)
        patch.setattr(sources, "BLOCK", block)
        shards = prepare(path, tokenizer=kind, validation_fraction=fraction, out=path.with_name("shards"))
    cut = int((1 - fraction) * len(text))
    assert splits(shards) == [text[:cut], text[cut:]]
    counts = shards.counts
    assert [counts[s]["characters"] for s in counts] == [cut, len(text) - cut]
    assert [counts[s]["bytes"] for s in counts] == [len(text[:cut].encode()), len(text[cut:].encode())]


def test_the_same_text_is_prepared_once(text, monkeypatch):
    first = prepare(text)
    monkeypatch.setattr(room._Job, "write", lambda *args: pytest.fail("it was made again"))
    again = prepare(text)
    assert (again.path, again.fingerprint) == (first.path, first.fingerprint)


def test_another_text_or_another_way_are_other_shards(text):
    paths = {
        prepare(text).path,
        prepare(text, tokenizer="byte").path,
        prepare(text, validation_fraction=0.2).path,
    }
    text.write_text(TEXT + "x", encoding="utf-8")
    paths.add(prepare(text).path)
    assert len(paths) == 4


def test_another_decoding_is_never_taken_for_this_one(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"caf\x80 au lait " * 9)

    def last(**options):
        return prepare(tmp_path / "t.txt", **options).tokenizer.characters[-1]

    assert last(encoding="cp1252") == "€"
    assert last(encoding="latin-1") == "\x80"
    assert last(encoding_errors="replace") == "\N{REPLACEMENT CHARACTER}"
    assert last(encoding_errors="ignore") == "u"


def test_what_was_skipped_once_is_still_an_error_when_asked(text):
    tokenizer = CharTokenizer("".join(sorted(set(TEXT) - {"–"})))
    prepare(text, tokenizer=tokenizer, unknown="skip")
    with pytest.raises(DataError, match="EN DASH"):
        prepare(text, tokenizer=tokenizer)


def test_shards_do_not_depend_on_where_or_how_often_they_are_made(text, tmp_path):
    first = prepare(text, out=tmp_path / "one")
    second = prepare(text.rename(tmp_path / "moved.txt"), out=tmp_path / "two")
    assert first.fingerprint == second.fingerprint
    for name in ("train_00000.bin", "validation_00000.bin", "tokenizer.json"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_a_damaged_cache_is_made_again_and_says_so(text, caplog):
    shards = prepare(text)
    path = shards.path / "train_00000.bin"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    again = prepare(text)
    assert again.fingerprint == shards.fingerprint
    assert path.read_bytes() == good
    assert "making it again" in caplog.text


def test_a_folder_of_the_users_own_is_never_touched(text, tmp_path):
    out = tmp_path / "out"
    shards = prepare(text, out=out)
    assert prepare(text, out=out).fingerprint == shards.fingerprint
    with pytest.raises(UsageError, match="another text, or otherwise"):
        prepare(text, out=out, tokenizer="byte")
    (out / "train_00000.bin").write_bytes(b"")
    with pytest.raises(DataError, match="cut off"):
        prepare(text, out=out)
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match="no shard directory"):
        prepare(text, out=tmp_path / "mine")


def test_an_existing_tokenizer_is_kept_and_strangers_are_named(text):
    with pytest.raises(DataError, match=r"'–' \(U\+2013, EN DASH\) at position 39") as caught:
        prepare(text, tokenizer=CharTokenizer("".join(sorted(set(TEXT) - {"–"}))))
    assert caught.value.where == str(text)
    assert caught.value.hint == "--data.unknown=skip"


def test_the_position_of_a_stranger_counts_the_whole_text(text, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK", 16)
    monkeypatch.setattr(sources, "BLOCK", 16)
    with pytest.raises(DataError, match="at position 39"):
        prepare(text, tokenizer=CharTokenizer("".join(sorted(set(TEXT) - {"–"}))))


def test_strangers_can_be_skipped_and_are_counted(text, caplog):
    shards = prepare(text, tokenizer=CharTokenizer("".join(sorted(set(TEXT) - {"–"}))), unknown="skip")
    cut = int(0.9 * len(TEXT))
    assert splits(shards) == [TEXT[:cut].replace("–", ""), TEXT[cut:].replace("–", "")]
    assert [shards.counts[s]["skipped"] for s in ("train", "validation")] == [18, 2]
    assert shards.counts["train"]["bytes"] == len(TEXT[:cut].replace("–", "").encode())
    assert "dropped 20 characters" in caplog.text


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the text is empty"),
        (b"\xef\xbb\xbf", "the text is empty"),
        (b"a", "one distinct character, 'a'"),
        (b"aaaaaaaaaaaaaaaaaaaaaa", "one distinct character, 'a'"),
        (b"\n" * 1000, "nothing but white space"),
        (b" \n" * 1000, "nothing but white space"),
        (b"ab", "the train part of the text holds 1 tokens, and one window needs 2"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary, not text: a NUL at byte 8"),
        (b"caf\xe9 au lait " * 9, "0xe9 at offset 3 is not utf-8"),
        (b"abc\0def" * 9, "binary, not text: a NUL at byte 3"),
    ],
)
@pytest.mark.parametrize("kind", ["char", "byte"])
def test_a_text_that_teaches_nothing_is_refused_and_nothing_is_written(
    tmp_path, cache, content, complaint, kind
):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        prepare(path, tokenizer=kind)
    assert caught.value.where == str(path)
    assert list((cache / "shards").glob("*")) == []


def test_a_text_shorter_than_a_window_is_refused_with_a_context_that_fits(text):
    with pytest.raises(DataError, match="the validation part of the text holds 130 tokens") as caught:
        prepare(text, context_length=130)
    assert caught.value.hint == "--model.context-length=129"
    with pytest.raises(
        DataError, match=f"the train part of the text holds {int(0.9 * len(TEXT))} tokens"
    ) as caught:
        prepare(text, context_length=5000)
    assert caught.value.hint == "--model.context-length=129"  # what fits both parts
    prepare(text, context_length=129)
    with pytest.raises(DataError, match="the validation part"):  # also where the shards are there already
        prepare(text, context_length=130)


def test_utf_16_with_its_mark_and_utf_8_with_its_mark_are_the_same_text(text, tmp_path):
    expected = prepare(text).fingerprint
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "other.txt").write_text(TEXT, encoding=encoding)
        assert prepare(tmp_path / "other.txt").fingerprint == expected


def test_bytes_that_are_no_text_can_be_replaced(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"caf\xe9 au lait " * 9)
    shards = prepare(tmp_path / "t.txt", encoding_errors="replace")
    assert "\N{REPLACEMENT CHARACTER}" in shards.tokenizer.characters
    assert "é" in prepare(tmp_path / "t.txt", encoding="latin-1").tokenizer.characters


def test_a_hundred_megabyte_line_streams(tmp_path, monkeypatch):
    """Smaller here; `benchmarks/text.py` measures memory on a gigabyte."""
    path = tmp_path / "line.txt"
    path.write_text("no newline here " * (1 << 18))
    longest = 0
    ordinary = CharTokenizer.encode

    def watched(self, piece, special="refuse"):
        nonlocal longest
        longest = max(longest, len(piece))
        return ordinary(self, piece)

    monkeypatch.setattr(CharTokenizer, "encode", watched)
    prepare(path)
    assert longest <= 1 << 20


def test_a_text_that_changes_while_it_is_read_is_noticed(text, cache):
    def touch(stage, done, total):
        if stage == "encode":
            os.utime(text, ns=(1, 1))

    with pytest.raises(DataError, match="changed while it was read"):
        prepare(text, progress=touch)
    assert list((cache / "shards").glob("*")) == []


def test_progress_is_told(text):
    seen = []
    prepare(text, progress=lambda *news: seen.append(news))
    assert seen[0] == ("read", len(TEXT), len(TEXT.encode()))
    assert seen[-1] == ("encode", len(TEXT), len(TEXT))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_an_impossible_validation_part_is_refused(text, fraction):
    with pytest.raises(UsageError, match="validation_fraction"):
        prepare(text, validation_fraction=fraction)


def test_an_unknown_tokenizer_is_refused(text):
    with pytest.raises(UsageError, match="unknown tokenizer 'bpe'"):
        prepare(text, tokenizer="bpe")


KILLED = """
import os, signal, sys
from primer.data.prepare import prepare

def die(stage, done, total):
    if stage == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

prepare(sys.argv[1], progress=die)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="knows no SIGKILL")
@pytest.mark.parametrize("stage", ["read", "encode"])
def test_a_kill_leaves_nothing_that_the_next_start_does_not_put_right(text, tmp_path, cache, stage):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(text), stage], check=False)
    assert killed.returncode == -9
    assert prepare(text).fingerprint == prepare(text, out=tmp_path / "fresh").fingerprint
    assert [path.name for path in (cache / "shards").iterdir()] == [prepare(text).path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="locales are set otherwise there")
def test_neither_locale_nor_path_change_the_text(tmp_path):
    path = tmp_path / "meine Texte 😀" / "text.txt"
    path.parent.mkdir()
    path.write_bytes(TEXT.encode())
    code = "import sys; from primer.data.prepare import prepare; print(prepare(sys.argv[1]).fingerprint)"
    found = set()
    for locale in ("C", "C.UTF-8"):
        surroundings = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        surroundings["XDG_CACHE_HOME"] = str(tmp_path / locale)
        command = [sys.executable, "-c", code, str(path)]
        found.add(subprocess.run(command, env=surroundings, capture_output=True, check=True).stdout)
    assert len(found) == 1


def test_a_cache_that_cannot_be_written_is_the_surroundings_fault(text, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SurroundingsError, match="cannot be written"):
        prepare(text, out=tmp_path / "file" / "out")


def test_bytes_are_their_own_ids(text):
    shards = prepare(text, tokenizer=ByteTokenizer())
    cut = int(0.9 * len(TEXT))
    np.testing.assert_array_equal(shards.tokens("train")[:], np.frombuffer(TEXT[:cut].encode(), np.uint8))


@pytest.mark.skipif("PRIMER_DATA" not in os.environ, reason="PRIMER_DATA names no folder of real data")
def test_shakespeare_is_split_as_in_the_lecture():
    shards = prepare("shakespeare", context_length=256)
    assert [shards.counts[s]["tokens"] for s in ("train", "validation")] == [1_003_854, 111_540]
    assert shards.tokenizer.vocab_size == 65
    assert shards.tokens("train").dtype == np.uint8


def test_equal_bytes_are_another_text_where_they_are_read_otherwise(tmp_path):
    """Lines of JSON are texts in a .jsonl file, and text in a .txt file."""
    content = "".join(f'{{"text": "row {n} of many"}}\n' for n in range(40))
    for name in ("rows.jsonl", "rows.txt"):
        (tmp_path / name).write_text(content)
    records, text = prepare(tmp_path / "rows.jsonl"), prepare(tmp_path / "rows.txt")
    assert records.path != text.path
    assert "".join(splits(text)) == content
    assert "{" not in "".join(splits(records))
