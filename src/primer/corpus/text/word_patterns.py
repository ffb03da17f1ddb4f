"""What spaCy's English rules cut from a chunk: marks in front, marks and units behind, marks inside; and web addresses.

spaCy states these as regular expressions over long lists of characters (spacy/lang/punctuation.py, char_classes.py, of
version 3.8). Here a character outside ASCII is first replaced by one that the rules treat alike (`shape`), so that the
patterns stay short. Which letters have a case, and which characters are symbols, is what Unicode says of them.
"""

from __future__ import annotations

import re
import unicodedata

Ranges = tuple[tuple[int, int], ...]


def _ranges(text: str) -> Ranges:
    """Code points as "41-5A 3A9 …", in hexadecimal."""
    pairs = (item.split("-") for item in text.split())
    return tuple((int(pair[0], 16), int(pair[-1], 16)) for pair in pairs)


def _within(character: str, ranges: Ranges) -> bool:
    code = ord(character)
    return any(first <= code <= last for first, last in ranges)


CASED = _ranges("""
    41-5A 61-7A C0-D6 D8-F6 F8-1BF 1C4-2AF 1D00-1D25 1D6B-1D77 1D79-1D9A 1E00-1EFF 2C60-2C7B 2C7E-2C7F A722-A76F
    A771-A787 A78B-A78E A790-A7B9 A7FA AB30-AB5A AB60-AB64 FF21-FF3A FF41-FF5A
    386 388-38A 38C 38E-38F 391-3A1 3A3-3A9 3AC-3AF 3B1-3C9 3CC-3CE
    400-401 403-40A 40C-40D 410-451 453-45A 45C-45D 490-491 496-497 4A2-4A3 4AE-4AF 4BA-4BB 4D8-4D9 4E8-4E9
""")
"""Latin letters, modern Greek, and Cyrillic as in Russian, Tatar, Ukrainian and Macedonian."""

UNCASED = _ranges("""
    591-5F4 FB1D-FB4F 620-64A 66E-6D5 6E5-6FF 750-77F 8A0-8BD FB50-FBB1 FBD3-FD3D FD50-FDC7 FDF0-FDFB FE70-FEFC
    1EE00-1EEBB 900-9FF B80-CFF D80-DFF 1100-137F AC00-D7AF 2E80-2FDF 2FF0-30FF 31C0-31EF 3200-4DBF 4E00-9FFF F900-FAFF
    FE30-FE4F 1F200-1F2FF 20000-2A6DF 2A700-2EBEF 2F800-2FA1F
""")
"""Blocks of scripts without case, marks included: Hebrew, Arabic; of India and Ceylon; Ethiopic; of East Asia."""

YOUNG_SYMBOLS = _ranges("""
    166D 2427-2429 2B97 2BC9 2BFF 2E50-2E51 2FFC-2FFF 31E4-31EF 32FF FD40-FD4F FDCF FDFE-FDFF 1019C 11FD5-11FF1
    1CC00-1CFC3 1D1E9-1D1EA 1E14F 1ED2E 1F10D-1F10F 1F16C-1F16F 1F1AD 1F6D5-1F6DF 1F6FA-1F6FC 1F774-1F77F 1F7D9-1F7FF
    1F8B0-1F8C1 1F90C-1F90F 1F93F 1F971-1F972 1F977-1F979 1F97B 1F9A3-1F9AF 1F9BA-1F9BF 1F9C3-1F9CF 1FA00-1FA5F
    1FA6E-1FBFF
""")
"""Symbols that came after Unicode 11, where spaCy's list ends: no marks to it."""

QUOTES = "'\"`´«»‘’‚“”„,「」『』（）〔〕【】《》\u3008\u3009\u2329\u232a⟦⟧"
PUNCTUATION = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
CURRENCY = "$£¥฿﷼" + "".join(map(chr, range(0x20A0, 0x20C0)))
DOLLARS = ("US$", "C$", "A$")
DIGITS = frozenset("0123456789")

LENGTHS = "km m dm cm mm км м дм см мм كم م سم مم"
"""Units of length, which with ² and ³ are units of area and volume."""
OTHER_UNITS = """
    ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K %
    нм кг г мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ غرام جرام جم كغ ملغ كوب اكواب
"""

OPENING = frozenset(QUOTES + PUNCTUATION + CURRENCY + "§%=—–")
CLOSING = frozenset(QUOTES + PUNCTUATION + "—–")
BEFORE_STOP = DIGITS.union(QUOTES + PUNCTUATION + "%²-+|")
"""After these, and after a small letter, a full stop is a word of its own."""

UNITS = frozenset(
    [unit + power for unit in LENGTHS.split() for power in ("", "²", "³")]
    + OTHER_UNITS.split()
    + [*CURRENCY, *DOLLARS]
)
UNIT_CHARACTERS = "".join(sorted(set("".join(UNITS))))
UNIT_ENDS = frozenset(unit[-1] for unit in UNITS)
UNIT_REACH = 1 + max(map(len, UNITS))
"""Of the longest unit and a digit before it."""

LOWER, UPPER, UNCASED_LETTER, LETTER, SYMBOL, UNCASED_SYMBOL, OTHER = "aAאƻ©㈱\0"
"""What stands for the others of its kind; an ideograph and its like count as small and as capital."""
SMALL = frozenset("abcdefghijklmnopqrstuvwxyz" + UNCASED_LETTER + UNCASED_SYMBOL)
CAPITAL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ" + UNCASED_LETTER + UNCASED_SYMBOL)


def is_symbol(character: str) -> bool:
    """Emoji, dingbats and the like: Unicode's category So, as it was in Unicode 11."""
    return unicodedata.category(character) == "So" and not _within(character, YOUNG_SYMBOLS)


def representative(character: str) -> str:
    """The character that the rules treat as they treat this one; an ASCII character stands for itself."""
    if character.isascii() or character in "…–—":
        return character
    if _within(character, UNCASED):
        return UNCASED_SYMBOL if is_symbol(character) else UNCASED_LETTER
    if _within(character, CASED):
        small = character.islower() or character == "ʔ"
        return LOWER if small else UPPER if character.isupper() else LETTER
    if character in QUOTES:
        return "'"
    return SYMBOL if is_symbol(character) else OTHER


class _Representatives(dict[int, str]):
    """`representative` by code point, for str.translate; each is found once."""

    def __missing__(self, code: int) -> str:
        self[code] = found = representative(chr(code))
        return found


_representatives = _Representatives()


def shape(text: str) -> str:
    """The text with every character outside ASCII replaced by one that the rules treat alike."""
    return text if text.isascii() else text.translate(_representatives)


def prefix_length(text: str, start: int, stop: int) -> int:
    """How many characters at the front of text[start:stop], which is not empty, are a word of their own.

    However long it is, all but dots is decided by its first three characters.
    """
    first = text[start]
    if first in OPENING:
        return 1
    if not first.isascii():
        return int(shape(first) in (SYMBOL, UNCASED_SYMBOL))
    if first not in ".+UCA":
        return 0
    if first == ".":
        dots = _dots_after(text, start, stop)
        return dots if dots > 1 else 0
    front = text[start : min(start + 3, stop)]
    if first == "+":
        return int(front[1:2] not in DIGITS)
    return next((len(sign) for sign in DOLLARS if front.startswith(sign)), 0)


def suffix_length(text: str, start: int, stop: int) -> int:
    """How many characters at the end of text[start:stop] are a word of their own.

    However long it is, all but dots is decided by the longest unit and the digit before it.
    """
    end = text[start if stop - start < UNIT_REACH else stop - UNIT_REACH : stop]
    last = end[-1:]
    if last == ".":
        dots = _dots_before(text, start, stop)
        return dots if dots > 1 else int(_ends_sentence(end[:-1]))
    if last in UNIT_ENDS:
        number = end.rstrip(UNIT_CHARACTERS)
        if number[-1:] in DIGITS and end[len(number) :] in UNITS:
            return len(end) - len(number)
    if last in "sS" and end[-2:-1] in ("'", "’"):
        return 2
    if last in CLOSING:
        return 2 if end[-2:] == "……" else 1
    if last == "+":
        return int(end[-2:-1] in DIGITS)
    return int(not last.isascii() and shape(last) in (SYMBOL, UNCASED_SYMBOL))


def _dots_after(text: str, start: int, stop: int) -> int:
    """How many dots are at the front of text[start:stop], without a copy of it."""
    place = start
    while place < stop and text[place] == ".":
        place += 1
    return place - start


def _dots_before(text: str, start: int, stop: int) -> int:
    """The same of its end."""
    place = stop
    while place > start and text[place - 1] == ".":
        place -= 1
    return stop - place


def _ends_sentence(body: str) -> bool:
    """Whether a full stop after this is a word of its own: not after one capital, as in initials."""
    if body[-1:] in BEFORE_STOP or (body[-2:-1] == "°" and body[-1] in "FfCcKk"):
        return True
    kinds = shape(body[-2:])
    return kinds[-1:] in SMALL or (len(kinds) == 2 and kinds[0] in CAPITAL and kinds[1] in CAPITAL)


_SMALL = f"a-z{UNCASED_LETTER}{UNCASED_SYMBOL}"
_CAPITAL = f"A-Z{UNCASED_LETTER}{UNCASED_SYMBOL}"
_LETTER = f"A-Z{LETTER}{_SMALL}"
INFIX = re.compile(
    rf"""\.\.+ | […{SYMBOL}{UNCASED_SYMBOL}]
    | (?<= [0-9] ) [-+*^] (?= [-0-9] )
    | (?<= [{_SMALL}'"`,] ) \. (?= [{_CAPITAL}'"`,] )
    | (?<= [{_LETTER}] ) , (?= [{_LETTER}] )
    | (?<= [{_LETTER}0-9] ) (?: -{{1,3}} | [–~] | —{{1,2}} | [:<>=/] ) (?= [{_LETTER}] )""",
    re.VERBOSE,
)
"""Marks that part words, over shapes."""

_SCHEME = re.compile(r"[\w+.-]{2,}://")
_HOST_LETTER = r"[A-Za-z0-9\u00a1-\uffff]"
_NAME = rf"(?: {_HOST_LETTER} (?: [A-Za-z0-9\u00a1-\uffff_-]{{0,62}} {_HOST_LETTER} )? \. )++"
"""The parts of a host but the last. None is given back (++): the last has no dot, so it could not be elsewhere."""
_REST = r"(?: :\d{2,5} )? (?: [/?#] .* )?"
_NAMED = re.compile(rf"{_NAME} (?P<top> [^.:/?#]{{2,63}} ) {_REST}", re.VERBOSE | re.DOTALL)
_PRIVATE = r"""(?: 10 | 127 ) (?: \.\d{1,3} ){3} | (?: 169\.254 | 192\.168 | 172\.(?: 1[6-9] | 2\d | 3[01] ) )
               (?: \.\d{1,3} ){2}"""
_NUMBERED = re.compile(
    rf"""(?! {_PRIVATE} ) (?: [1-9]\d? | 1\d\d | 2[01]\d | 22[0-3] )
    (?: \. (?: 1?\d{{1,2}} | 2[0-4]\d | 25[0-5] ) ){{2}} \. (?: [1-9]\d? | 1\d\d | 2[0-4]\d | 25[0-4] ) {_REST}""",
    re.VERBOSE | re.DOTALL,
)


def is_address(text: str) -> bool:
    """Whether the text is a web or mail address: scheme, user, host with a dot, port, path (all but the host may lack).

    The host is a name whose last part is of 2 to 63 small letters, or a public IPv4 address.
    """
    if "." not in text:
        return False
    scheme = _SCHEME.match(text)
    users = (place + 1 for place, character in enumerate(text) if character == "@" and place)
    return any(_is_host_first(text, start) for start in (0, scheme.end() if scheme else 0, *users))


def _is_host_first(text: str, start: int) -> bool:
    named = _NAMED.fullmatch(text, start)
    return bool((named and SMALL.issuperset(shape(named["top"]))) or _NUMBERED.fullmatch(text, start))


_SENTENCE_MARKS = _ranges("""
    21 2E 3F 589 61F 6D4 700-702 7F9 964-965 104A-104B 1362 1367-1368 166E 1735-1736 1803 1809 1944-1945 1AA8-1AAB
    1B5A-1B5B 1B5E-1B5F 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E 2E3C 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877
    A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 11047-11048
    110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3
    115C9-115D7 11641-11642 1173C-1173E 11A42-11A43 11A9B-11A9C 11C41-11C42 16A6E-16A6F 16AF5 16B37-16B38 16B44 1BC9F
    1DA88
""")


def sentence_marks() -> frozenset[str]:
    """The characters of Unicode's property Sentence_Terminal (as of Unicode 10, which spaCy lists), and ｡."""
    return frozenset(chr(code) for first, last in _SENTENCE_MARKS for code in range(first, last + 1))
