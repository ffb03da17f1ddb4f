"""What a tokenizer makes of texts, as figures and as a picture: `primer tokenizer report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from primer.cli.runs import colour, unicode
from primer.cli.table import table

if TYPE_CHECKING:
    from primer.tokens import Tokenizer

SENTENCES = {
    "English": "The river was calm that morning, and nobody in the village expected a storm.",
    "German": "Der Fluss war an jenem Morgen ruhig, und niemand im Dorf rechnete mit einem Sturm.",
    "French": "La rivière était calme ce matin-là, et personne au village ne s'attendait à un orage.",
    "Spanish": "El río estaba tranquilo esa mañana y nadie en el pueblo esperaba una tormenta.",
    "Polish": "Tego ranka rzeka była spokojna i nikt we wsi nie spodziewał się burzy.",
    "Turkish": "O sabah nehir sakindi ve köyde hiç kimse fırtına beklemiyordu.",
    "Russian": "Тем утром река была спокойна, и никто в деревне не ждал бури.",
    "Greek": "Εκείνο το πρωί το ποτάμι ήταν ήρεμο και κανείς στο χωριό δεν περίμενε καταιγίδα.",
    "Hebrew": "הנהר היה רגוע באותו בוקר, ואיש בכפר לא ציפה לסערה.",
    "Arabic": "كان النهر هادئا في ذلك الصباح، ولم يتوقع أحد في القرية عاصفة.",
    "Hindi": "उस सुबह नदी शांत थी और गाँव में किसी को तूफ़ान की उम्मीद नहीं थी।",
    "Thai": "เช้าวันนั้นแม่น้ำสงบ และไม่มีใครในหมู่บ้านคาดว่าจะมีพายุ",
    "Chinese": "那天早上河水很平静，村里没有人料到会有暴风雨。",
    "Japanese": "その朝、川は穏やかで、村の誰も嵐を予想していなかった。",
    "Korean": "그날 아침 강은 잔잔했고, 마을의 누구도 폭풍을 예상하지 못했다.",
    "Python": "def area(width: float, height: float) -> float:\n    return width * height  # in square metres\n",
    "numbers": "1, 12, 123, 1234, 12345, 3.14159, 2,718,281, 1e-9, 50 %\n",
    "emoji": "☂️ 🌊 👩‍🌾 👍🏽 🇳🇴",
}
"""The same in many languages, with little that the internet has often."""

SHADES = (153, 222, 157, 217, 183)
"""Light colours of a terminal with 256 of them, one token after the other."""


def look(
    tokenizer: Tokenizer,
    specs: Sequence[str],
    *,
    decoding: Mapping[str, Any],
    passage: int,
    longest: int,
) -> dict[str, Any]:
    """Everything that the report says, as plain values."""
    lengths: Counter[int] = Counter()
    rows, beginnings = [], []
    for name, pieces in _texts(specs, decoding):
        row, beginning = _row(tokenizer, name, pieces, lengths, passage)
        rows.append(row)
        beginnings.append(beginning)
    shown = "\n".join(beginnings)[:passage]
    in_vocabulary = Counter(tokenizer.byte_lengths.tolist())
    order = sorted(range(tokenizer.vocab_size), key=lambda token: -int(tokenizer.byte_lengths[token]))
    return {
        "kind": tokenizer.name,
        "vocab_size": tokenizer.vocab_size,
        "special_tokens": dict(tokenizer.special_tokens),
        "texts": rows,
        "lengths": [
            {"bytes": length, "in_vocabulary": in_vocabulary[length], "in_texts": lengths[length]}
            for length in sorted(in_vocabulary)
        ],
        "longest": [
            {"id": token, "bytes": int(tokenizer.byte_lengths[token]), "text": written(tokenizer, token)}
            for token in order[:longest]
        ],
        "passage": [written(tokenizer, token) for token in _ids(tokenizer, shown)[0]],
    }


def _texts(specs: Sequence[str], decoding: Mapping[str, Any]) -> Iterator[tuple[str, Iterable[str]]]:
    """(name, text in pieces) of every text."""
    if not specs:
        yield from ((name, [sentence]) for name, sentence in SENTENCES.items())
        return
    from primer.corpus import open_source
    from primer.tokens.blocks import rejoined

    for source in [open_source(spec, **decoding) for spec in specs]:
        yield source.name, rejoined(source.text())


def _row(
    tokenizer: Tokenizer, name: str, pieces: Iterable[str], lengths: Counter[int], passage: int
) -> tuple[dict[str, Any], str]:
    """The figures of a text, and its beginning; the lengths of its tokens are counted into `lengths`."""
    characters = size = tokens = unknown = 0
    beginning = ""
    for piece in pieces:
        ids, strange = _ids(tokenizer, piece)
        beginning += piece[: max(0, passage - len(beginning))]
        unknown += strange
        characters += len(piece)
        size += len(piece.encode())
        tokens += len(ids)
        lengths.update(tokenizer.byte_lengths[ids].tolist())
    row = {"name": name, "characters": characters, "bytes": size, "tokens": tokens, "unknown": unknown}
    known = tokens and not unknown
    return row | {"bytes_per_token": round(size / tokens, 4) if known else None}, beginning


def _ids(tokenizer: Tokenizer, text: str) -> tuple[Any, int]:
    """The ids of a text, and how many of its characters the tokenizer does not know."""
    from primer.tokens import CharTokenizer

    if isinstance(tokenizer, CharTokenizer):
        tokenizer = CharTokenizer(tokenizer.characters, unknown="skip")
        ids = tokenizer.encode(text)
        return ids, len(text) - len(ids)
    return tokenizer.encode(text, special="text"), 0


def written(tokenizer: Tokenizer, token: int) -> str:
    """A token as one can read it: what is no text of its own as \\x.., a special token as its name."""
    names = {number: name for name, number in tokenizer.special_tokens.items()}
    return names.get(token) or tokenizer.token_bytes(token).decode(errors="backslashreplace")


def page(seen: Mapping[str, Any]) -> str:
    """The report as text for a terminal."""
    rows = [("text", "bytes", "tokens", "bytes a token", "characters a token")]
    for row in seen["texts"]:
        figures = ("-", "-")
        if row["unknown"]:
            figures = (f"{row['unknown']:,} characters unknown", "-")
        elif row["tokens"]:
            figures = (f"{row['bytes_per_token']:.3f}", f"{row['characters'] / row['tokens']:.3f}")
        rows.append((row["name"], f"{row['bytes']:,}", f"{row['tokens']:,}", *figures))
    special = f", {len(seen['special_tokens'])} of them special" if seen["special_tokens"] else ""
    parts = [
        f"{seen['kind']}: {seen['vocab_size']:,} tokens{special}",
        table(rows, right={1, 2, 3, 4}, cut=0),
        _lengths(seen["lengths"]),
    ]
    if seen["longest"]:
        names = [("id", "bytes", "the longest tokens")]
        names += ((str(one["id"]), str(one["bytes"]), repr(one["text"])) for one in seen["longest"])
        parts.append(table(names, right={0, 1}, cut=2))
    if seen["passage"]:
        parts.append(bordered(seen["passage"]))
    return "\n\n".join(parts)


def _lengths(lengths: Sequence[Mapping[str, int]]) -> str:
    """How many tokens of each length there are, and how often such occur, with everything beyond 16 together."""
    groups: dict[str, list[int]] = {}
    for one in lengths:
        name = str(one["bytes"]) if one["bytes"] <= 16 else "more"
        counts = groups.setdefault(name, [0, 0])
        counts[0] += one["in_vocabulary"]
        counts[1] += one["in_texts"]
    total = sum(often for _, often in groups.values()) or 1
    rows = [("bytes", "tokens of the vocabulary", "of the texts")]
    rows += ((name, f"{known:,}", f"{often / total:.1%}") for name, (known, often) in groups.items())
    return table(rows, right={0, 1, 2})


def bordered(tokens: Sequence[str]) -> str:
    """A text with its tokens' borders: in colours, or with a bar between them where there are no colours."""
    if not colour():
        bar = "│" if unicode() else "|"
        return bar.join(map(_visible, tokens))
    shaded = []
    for token, shade in zip(tokens, cycle(SHADES), strict=False):
        lines = _visible(token).split("\n")
        shaded.append("\n".join(f"\x1b[30;48;5;{shade}m{line}\x1b[0m" if line else "" for line in lines))
    return "".join(shaded)


def _visible(token: str) -> str:
    """A line's end is shown before it is made; other controls are written out."""
    mark = "⏎\n" if unicode() else "\\n\n"
    return "".join(
        mark if c == "\n" else c if c.isprintable() else c.encode("unicode_escape").decode() for c in token
    )
