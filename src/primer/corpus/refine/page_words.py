"""The thresholds of a recipe in words: what a rule says of a page that it drops."""

from __future__ import annotations

import json
from typing import Any

from primer.corpus.refine.page_text import NO_BREAK, Fields, clean, label, number, share

PHRASES: dict[str, str] = {
    "characters": "it is empty",
    "dup_para_frac": "{more} {share} of its paragraphs repeat an earlier one",
    "dup_para_char_frac": "{more} {share} of its characters stand in paragraphs that repeat an earlier one",
    "dup_line_frac": "{more} {share} of its lines repeat an earlier one",
    "dup_line_char_frac": "{more} {share} of its characters stand in lines that repeat an earlier one",
    "top_2_gram": "its most frequent pair of words makes up {more} {share} of its characters",
    "top_3_gram": "its most frequent run of 3 words makes up {more} {share} of its characters",
    "top_4_gram": "its most frequent run of 4 words makes up {more} {share} of its characters",
    **{
        f"duplicated_{n}_n_grams": f"{{more}} {{share}} of its characters stand in runs of {n} words "
        "that were there before"
        for n in range(5, 11)
    },
    "n_words": "it has {fewer} {number} words",
    "mean_word_length": "its words have {fewer} {number} characters on average",
    "hash_ratio": "it has {more} {number} number signs (#) for each word",
    "ellipsis_ratio": "it has {more} {number} ellipses for each word",
    "bullet_lines": "{more} {share} of its lines begin with a bullet",
    "ellipsis_lines": "{more} {share} of its lines end in an ellipsis",
    "alpha_words": "{more} {share} of its words have a letter in them",
    "stop_words": "it has {fewer} {number} of the commonest English words (the, be, to, of, and, that, have, with)",
    "curly_bracket": "it has a curly bracket",
    "lorem_ipsum": "it says “lorem ipsum”",
    "lorem_ipsum_first": "it says “lorem ipsum”",
    "sentences": "it has {fewer} {number} sentences",
    "nonblank_lines": "none of its lines is left, or blank ones only",
    "line_punct_ratio": "{more} {share} of its lines end in punctuation",
    "short_line_ratio": "{more} {share} of its lines are short, of at most 30 characters",
    "char_dup_ratio": "{more} {share} of its characters stand in lines that were there before",
    "list_ratio": "it has {more} {number} line breaks for each word",
}
"""By column. The statistics are those of `primer.corpus.text.statistics`."""

_NAMES = """af Afrikaans|ar Arabic|bg Bulgarian|bn Bengali|ca Catalan|cs Czech|da Danish|de German|el Greek|en English
eo Esperanto|es Spanish|et Estonian|eu Basque|fa Persian|fi Finnish|fr French|ga Irish|gl Galician|he Hebrew|hi Hindi
hr Croatian|hu Hungarian|hy Armenian|id Indonesian|is Icelandic|it Italian|ja Japanese|ka Georgian|kk Kazakh|ko Korean
la Latin|lt Lithuanian|lv Latvian|mk Macedonian|mr Marathi|ms Malay|nl Dutch|nn Norwegian Nynorsk|no Norwegian|pl Polish
pt Portuguese|ro Romanian|ru Russian|sk Slovak|sl Slovenian|sq Albanian|sr Serbian|sv Swedish|sw Swahili|ta Tamil
te Telugu|th Thai|tl Tagalog|tr Turkish|uk Ukrainian|ur Urdu|vi Vietnamese|zh Chinese"""
LANGUAGES = dict(entry.split(" ", 1) for entry in _NAMES.replace("\n", "|").split("|"))
"""English names by ISO 639-1 code, of those that a crawl is likely to hold."""


def condition(reason: Fields) -> str:
    """When a reason drops a page, as HTML: `more than 1 % of its characters …`. Empty for one without threshold."""
    column, limit = reason.get("column"), reason.get("threshold")
    if column is None or limit is None:
        return ""
    above = reason.get("above", True)
    words = {
        "more": "more than" if above else "less than",
        "fewer": "more than" if above else "fewer than",
        "number": number(limit),
        "share": share(limit, 1),
    }
    if column in PHRASES:
        return PHRASES[column].format(**words)
    return f"<code>{clean(column)}</code> is {'above' if above else 'below'} {words['number']}"


def in_words(reason: Fields) -> str:
    """One sentence on a reason, as HTML: when it drops, or what the report says about it."""
    when = condition(reason)
    if when:
        return f"Dropped if {when}."
    return sentence(reason.get("about"))


def sentence(about: object) -> str:
    """A phrase of the report as a sentence of HTML: a capital, and a full stop if nothing ends it."""
    text = str(about or "").strip()
    end = "" if text.endswith((".", "!", "?")) or not text else "."
    return label(text[:1].upper() + text[1:]) + end if text else ""


def setting(reason: Fields, settings: Fields) -> str:
    """The setting that a reason comes from, as HTML, with its value."""
    key = reason.get("setting")
    if not key:
        return ""
    value = f" = {shown(settings[key])}" if key in settings else ""
    return f"<code>{clean(key)}{value.replace(' ', NO_BREAK)}</code>"


def shown(value: Any) -> str:
    """A setting's value as HTML, spelt as in JSON, which is nearly TOML."""
    return clean(json.dumps(value, ensure_ascii=False, sort_keys=True, default=str))


def language(code: object) -> str:
    """A language as HTML: `German (de)`."""
    name = LANGUAGES.get(str(code))
    return (
        f"{name} <code>{clean(code)}</code>" if name else f"<code><bdi>{clean(str(code)[:60])}</bdi></code>"
    )
