"""Stages, columns and reasons in words, for reports and for people who ask."""

from __future__ import annotations

STAGE_TITLES: dict[str, tuple[str, str]] = {
    "records": ("Records", "what of the input is a page at all"),
    "urls": ("Addresses", "block lists and banned words in the address"),
    "extract": ("Extraction", "the page's main text, if it has one"),
    "language": ("Language", "what language it is in, and how surely"),
    "repetition": ("Repetition", "Gopher's limits for what is said twice"),
    "quality": ("Quality", "Gopher's rules of thumb for prose"),
    "c4": ("C4", "C4's rules, line by line"),
    "fineweb": ("FineWeb", "FineWeb's own rules, on the lines that are left"),
    "classifier": ("Classifier", "a model's opinion, trained on your labels"),
    "decontaminate": ("Decontamination", "texts of evaluations do not belong into training"),
    "dedup": ("Duplicates", "exact copies, then near ones by MinHash"),
}

COLUMN_TITLES: dict[str, str] = {
    "dup_para_frac": "share of paragraphs that were there before",
    "dup_para_char_frac": "share of characters in paragraphs that were there before",
    "dup_line_frac": "share of lines that were there before",
    "dup_line_char_frac": "share of characters in lines that were there before",
    **{f"top_{n}_gram": f"share of characters in the most frequent {n} words" for n in (2, 3, 4)},
    **{
        f"duplicated_{n}_n_grams": f"share of characters in {n} words that were there before"
        for n in range(5, 11)
    },
    "n_words": "words that are not symbols alone",
    "mean_word_length": "characters a word",
    "hash_ratio": "# signs a word",
    "ellipsis_ratio": "ellipses a word",
    "bullet_lines": "share of lines that begin with a bullet",
    "ellipsis_lines": "share of lines that end in an ellipsis",
    "alpha_words": "share of words with a letter",
    "stop_words": "how many of eight common English words occur",
    "sentences": "sentences in the lines that are left",
    "curly_bracket": "a curly bracket is in it",
    "lorem_ipsum": "lorem ipsum is in it",
    "lorem_ipsum_first": "lorem ipsum is in it",
    "line_punct_ratio": "share of lines that end in punctuation",
    "short_line_ratio": "share of lines of at most 30 characters",
    "char_dup_ratio": "share of characters in lines that were there before",
    "list_ratio": "line ends a word",
}

_REASONS: dict[str, str] = {
    "not_html": "the payload is no HTML",
    "binary": "called HTML, and is something else",
    "empty": "nothing is in it",
    "too_large": "larger than records.max_bytes",
    "truncated": "the file ends in the middle of it",
    "corrupt": "damaged: these bytes cannot be unpacked",
    "malformed": "no record, though it stands where one should be",
    "not_an_archive": "no archive of any known kind",
    "not_json": "a line that is no JSON",
    "no_text": "no text is in it",
    "undecodable": "no charset makes text of its bytes",
    "extraction_failed": "the extractor gave up",
    "extraction_timeout": "the extractor took too long",
    "crashed": "a process died or hung over it",
    "too_deep": "elements too deep within each other",
    "domain": "its domain is on a block list",
    "subdomain": "its host is on a block list",
    "url": "its address is on a block list",
    "hard_blacklisted": "a banned word is in its address",
    "soft_blacklisted": "several suspicious words are in its address",
    "blacklisted_subword": "its address contains a banned word",
    "exact_duplicate": "its text is, to the letter, one that came before",
    "near_duplicate": "nearly the text of one that came before",
    "curly_bracket": "a curly bracket is in it",
    "lorem_ipsum": "lorem ipsum is in it",
    "lines": "lines taken out of pages that go on: too short, about JavaScript, cookies or terms of use; citations",
    "low_score": "the classifier does not find it good enough",
    "contaminated": "text of an evaluation is in it",
    "too_few_sentences": "too few sentences are left of it",
    "gopher_short_doc": "too few words",
    "gopher_long_doc": "too many words",
    "gopher_below_avg_threshold": "its words are too short",
    "gopher_above_avg_threshold": "its words are too long",
    "gopher_too_many_hashes": "too many # signs",
    "gopher_too_many_ellipsis": "too many ellipses",
    "gopher_too_many_bullets": "too many lines begin with a bullet",
    "gopher_too_many_end_ellipsis": "too many lines end in an ellipsis",
    "gopher_below_alpha_threshold": "too many words without a letter",
    "gopher_enough_stop_words": "too few of the eight common English words",
    "line_punct_ratio": "too few lines end in punctuation",
    "short_line_ratio": "too many short lines",
    "char_dup_ratio": "too much stands in lines that were there before",
    "list_ratio": "too many line ends for its words",
}


def reason_in_words(stage: str, reason: str) -> str:
    """One line about a reason."""
    if reason in _REASONS:
        return _REASONS[reason]
    if stage == "language":
        return f"taken for {reason.removeprefix('language_')}, or not surely enough for the languages to keep"
    if stage == "records" and reason.startswith("record_"):
        return f"a record of kind {reason.removeprefix('record_')}, which is no page"
    if stage == "repetition" and reason in COLUMN_TITLES:
        return f"too large a {COLUMN_TITLES[reason]}"
    return reason.replace("_", " ")
