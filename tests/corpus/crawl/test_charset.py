import codecs
import random

import pytest

from primer.corpus.crawl.archive import read_archive
from primer.corpus.crawl.charset import codec_of, decode, decode_as_datatrove

JAPANESE = "日本語の文章です。これは少し長い文章で、漢字とかなが混ざっています。東京は今日も晴れでした。"
KOREAN = (
    "안녕하세요. 이것은 한국어로 쓴 조금 긴 문장입니다. 오늘 서울의 날씨는 맑습니다. 펲시콜라와 똠방각하."
)
CHINESE = "这是一个用来测试编码的中文句子。今天北京的天气很好，我们去公园散步吧。"
RUSSIAN = "Привет, мир. Это довольно длинное предложение на русском языке, чтобы его можно было узнать."
FRENCH = "Déjà vu à côté de l’été, où les élèves français rêvent d’un « cœur » — là-bas."


def page(text, meta=""):
    tag = f'<meta charset="{meta}">' if meta else ""
    return f"<!doctype html><html><head>{tag}<title>t</title></head><body><p>{text}</p></body></html>"


CHARSETS = [
    (JAPANESE, "cp932", "Shift_JIS", "shift_jis"),
    (JAPANESE, "euc_jp", "EUC-JP", "euc-jp"),
    (JAPANESE, "iso2022_jp", "iso-2022-jp", "iso-2022-jp"),
    (KOREAN, "cp949", "euc-kr", "euc-kr"),
    (CHINESE, "gb18030", "gb2312", "gb18030"),
    (CHINESE, "gb18030", "GB18030", "gb18030"),
    ("這是一個用來測試編碼的中文句子。", "big5hkscs", "Big5", "big5"),
    (RUSSIAN, "cp1251", "windows-1251", "windows-1251"),
    (RUSSIAN, "koi8_r", "KOI8-R", "koi8-r"),
    (FRENCH, "cp1252", "latin1", "windows-1252"),
    (FRENCH, "cp1252", "latin-1", "windows-1252"),
    (FRENCH, "cp1252", "us-ascii", "windows-1252"),
    ("Žluťoučký kůň", "iso8859_2", "ISO-8859-2", "iso-8859-2"),
    ("Türkçe ğış", "cp1254", "iso-8859-9", "windows-1254"),
    (FRENCH, "utf-8", "UTF8", "utf-8"),
]


@pytest.mark.parametrize(("text", "codec", "label", "name"), CHARSETS)
def test_a_declared_charset_is_believed(text, codec, label, name):
    by_http = decode(page(text).encode(codec), f" {label} ")
    assert (by_http.text, by_http.charset, by_http.source) == (page(text), name, "http")
    by_meta = decode(page(text, label).encode(codec))
    assert (by_meta.text, by_meta.charset, by_meta.source) == (page(text, label), name, "meta")


@pytest.mark.parametrize(
    ("text", "codec"),
    [case[:2] for case in CHARSETS if case[1] in ("cp932", "cp949", "cp1251", "koi8_r")]
    + [(CHINESE, "gb18030"), (FRENCH, "cp1252")],
)
@pytest.mark.parametrize("lie", ["", "utf-8", "x-unknown", "utf-7"])
def test_where_none_is_declared_or_the_declaration_lies_a_detector_tells(text, codec, lie):
    found = decode(page(text, lie).encode(codec), lie)
    assert (found.text, found.source) == (page(text, lie), "detected")


def test_http_is_before_meta_and_meta_before_the_detector():
    data = page(RUSSIAN, "koi8-r").encode("cp1251")
    assert decode(data, "windows-1251").text == page(RUSSIAN, "koi8-r")
    assert decode(data).charset == "koi8-r"  # believed, though it is wrong: all bytes are valid in it


@pytest.mark.parametrize(
    ("mark", "codec", "name"),
    [
        (codecs.BOM_UTF8, "utf-8", "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16-be"),
    ],
)
def test_a_byte_order_mark_is_before_all_and_no_text(mark, codec, name):
    found = decode(mark + page(FRENCH).encode(codec), "windows-1252")
    assert (found.text, found.charset, found.source) == (page(FRENCH), name, "bom")
    broken = mark + page(FRENCH * 9).encode(codec) + (b"\xff" if codec == "utf-8" else b"a")
    assert decode(broken, "windows-1252").text == page(FRENCH * 9) + "\ufffd"
    assert decode(codecs.BOM_UTF8 + b"\xff\xfe\xfa" * 50) is None


@pytest.mark.parametrize("label", ["iso-8859-1", "windows-1251", "koi8-r"])
def test_valid_utf8_is_utf8_whatever_single_byte_charset_is_declared(label):
    found = decode(page(FRENCH, label).encode(), label)
    assert (found.text, found.charset, found.source) == (page(FRENCH, label), "utf-8", "utf-8")
    plain = decode(page("only ascii", label).encode(), label)
    assert plain.source == "http"


def test_against_a_multi_byte_declaration_it_needs_more_of_it():
    assert decode(page(FRENCH * 3).encode(), "gbk").text == page(FRENCH * 3)
    assert decode("联通".encode("gbk"), "gbk").text == "联通"  # these four bytes are valid UTF-8 as well


def test_no_valid_text_of_a_single_byte_charset_is_taken_for_utf8():
    for text, codec in (
        (FRENCH, "cp1252"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        ("Žluťoučký kůň", "iso8859_2"),
    ):
        for start in range(len(text) - 8):
            assert decode(text[start : start + 8].encode(codec), codec).text == text[start : start + 8]


def test_latin1_means_windows_1252_with_its_five_undefined_bytes():
    data = bytes(range(0x20, 0x100))
    text = decode(data, "iso-8859-1").text
    defined = [byte for byte in data if byte not in b"\x81\x8d\x8f\x90\x9d"]
    assert [text[byte - 0x20] for byte in defined] == list(bytes(defined).decode("cp1252"))
    assert [text[byte - 0x20] for byte in b"\x81\x8d\x8f\x90\x9d"] == list("\x81\x8d\x8f\x90\x9d")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ('<meta charset="koi8-r">', "koi8-r"),
        ("<META CHARSET=koi8-r/>", "koi8-r"),
        ("<meta http-equiv=Content-Type content='text/html; charset=koi8-r'>", "koi8-r"),
        ("<!-- <meta charset=windows-1251> --><meta charset='koi8-r'>", "koi8-r"),
        ('<?xml version="1.0" encoding="koi8-r"?>', "koi8-r"),
        ("<meta charset=koi8-r><meta charset=windows-1251>", "koi8-r"),
        (" " * 1024 + "<meta charset=koi8-r>", "windows-1251"),  # beyond the prescan: detected
    ],
)
def test_where_a_page_names_its_charset(head, expected):
    codec = "cp1251" if expected == "windows-1251" else "koi8_r"
    assert decode((head + RUSSIAN).encode(codec)).charset == expected
    assert decode((head + RUSSIAN).encode(codec)).text == head + RUSSIAN


def test_a_meta_tag_that_says_utf16_means_utf8():
    assert decode(page(FRENCH, "utf-16").encode()).charset == "utf-8"


def test_a_page_with_a_few_broken_bytes_is_kept_and_one_with_many_is_not():
    cut = page(RUSSIAN).encode()[:150]
    while True:
        try:
            cut.decode()
            cut = cut[:-1]
        except UnicodeDecodeError:
            break
    assert decode(cut, "utf-8").text == cut.decode("utf-8", "replace")
    stray = page(FRENCH * 5).encode() + b"\xff"
    assert decode(stray, "utf-8").text == page(FRENCH * 5) + "\ufffd"
    assert decode(stray, "utf-8").source == "utf-8"
    assert decode(random.Random(0).randbytes(3000)) is None


def test_a_page_with_few_accents_is_not_called_broken_utf8():
    text = page(
        "There is a small restaurant around the corner, and it is open. " * 9 + "Café à la crème, déjà vu"
    )
    found = decode(text.encode("cp1252"), "utf-8")
    assert (found.text, found.charset, found.source) == (text, "windows-1252", "detected")


def test_nuls_are_dropped_as_a_browser_drops_them():
    assert decode(b"<p>a\0b\0").text == "<p>ab"
    assert decode("é\0".encode("cp1252"), "latin1").text == "é"


def test_what_comes_out_can_always_be_written_as_utf8():
    draw = random.Random(5)
    labels = ["", *["utf-8", "latin1", "gb18030", "big5", "shift_jis", "euc-kr", "utf-16be", "utf-32", "hz"]]
    surrogates = ["aé日\ud800\0".encode("utf-8", "surrogatepass"), b"\xd8\x00a\xdc", b"\x83\x36\xc7\x38"]
    decoded = 0
    for _ in range(1500):
        data = draw.choice([draw.randbytes(40), *surrogates])
        found = decode(data + draw.randbytes(draw.randint(0, 3)), draw.choice(labels))
        if found:
            decoded += 1
            assert "\0" not in found.text
            found.text.encode("utf-8")
    assert decoded > 300


def test_empty_bytes_are_an_empty_text():
    assert decode(b"").text == ""


NO_CHARSETS = ["unknown", "utf-7", "rot13", "base64", "idna", "unicode_escape", "undefined", "\x00", "é"]


@pytest.mark.parametrize("label", ["", "a" * 999, *NO_CHARSETS])
def test_what_names_no_charset(label):
    assert codec_of(label) is None


def test_real_awkward_pages(real_data):
    pages = {
        r.url[14:]: decode(r.payload, r.charset)
        for r in read_archive(real_data / "warc-bad" / "charsets.warc")
    }
    told = {url: found and (found.charset, found.source) for url, found in pages.items()}
    assert told == {
        "sjis": ("shift_jis", "meta"),
        "latin1": ("windows-1252", "http"),
        "liar": ("windows-1251", "detected"),
        "png": None,
        "nul": ("utf-8", "utf-8"),
        "deep": ("utf-8", "utf-8"),
    }
    assert "日本語の文章" in pages["sjis"].text
    assert "Ünïcödé" in pages["latin1"].text
    assert "Привет мир" in pages["liar"].text
    assert "abc hello" in pages["nul"].text


def test_as_datatrove_takes_utf8_or_what_a_detector_says_and_cleans_nothing():
    assert decode_as_datatrove("a\0é".encode()) == "a\0é"
    assert decode_as_datatrove(page(RUSSIAN, "utf-8").encode("cp1251")) == page(RUSSIAN, "utf-8")
    assert decode_as_datatrove(b"\xff\xfe\xfd\x00\x81" * 3) is None
    assert decode_as_datatrove(codecs.BOM_UTF8 + b"a") == "\ufeffa"
