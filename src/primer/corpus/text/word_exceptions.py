"""Chunks that spaCy's English rules cut in a way of their own, made from small tables.

Contractions are cut before the verb or the "not" (don't → do n't, it's → it 's), with an apostrophe or without (dont →
do nt) as long as that is no other word (ill, its, shed …); hours are cut from am and pm; abbreviations and emoticons
stay whole. Whatever has an apostrophe is known with ’ too.
"""

from __future__ import annotations

from collections.abc import Iterator

Cut = tuple[str, ...]
"""The words of a chunk; joined they are the chunk."""

CONTRACTIONS = (
    ("i", ("'m", "'m a")),
    ("i you he she it we they", ("'ll", "'ll 've", "'d", "'d 've")),
    ("i you we they", ("'ve",)),
    ("you we they", ("'re",)),
    ("he she it", ("'s",)),
    ("who what when where why how there that this these those", ("'ll", "'ll 've", "'d", "'d 've")),
    ("who what when where why how there that this", ("'s",)),
    ("who what when where why how there these those", ("'re", "'ve")),
    ("ca could do does did had may might must need ought sha should wo would", ("n't", "n't 've")),
    ("ai are is was were have has dare", ("n't",)),
    ("could might must should would not", ("'ve",)),
)
"""Left parts, and the endings that each of them takes; capitalised too, and without the apostrophes too."""

OTHER_WORDS = frozenset(["ill", "its", "hell", "shell", "shed", "were", "well", "whore"])
"""What would be a contraction without its apostrophe, were it not another word."""

CUT = (
    "can not,Can not,gon na,Gon na,got ta,Got ta,let 's,Let 's,c'm on,C'm on,y' all,y all,how 'd 'y,How 'd 'y"
)

HOURS = range(1, 13)
HALVES_OF_THE_DAY = ("am", "a.m.", "pm", "p.m.")

DROPPED_G = "doin goin nothin nuthin ol somethin lovin havin"
"""Whole words with an apostrophe at the end or without; capitalised too."""

CLIPPED = """
    ' '' 's 'S ‘s ‘S 'd 're em 'em ll 'll nuff 'nuff 'bout 'cause 'Cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz
    ma'am Ma'am o'clock O'clock
"""

ABBREVIATIONS = """
    Ak. Ala. Ariz. Ark. Calif. Colo. Conn. D.C. Del. Fla. Ga. Ia. Id. Ill. Ind. Kan. Kans. Ky. La. Mass. Md. Mich.
    Minn. Miss. Mo. Mont. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Okla. Ore. Pa. S.C. Tenn. Va. Wash. Wis.
    Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec.
    Adm. Dr. Gen. Gov. Jr. Messrs. Mr. Mrs. Ms. Ph.D. Prof. Rep. Rev. Sen. Bros. Co. co. Corp. Inc. Ltd. Mt. St.
    a.m. p.m. e.g. E.g. E.G. i.e. I.e. I.E. v.s. vs. and/or w/o C++ — <space> \\t \\n \\")
"""
ONE_LETTER = "abcdefghijklmnopqrstuvwxyzäöü"
"""These with a full stop are abbreviations."""

SMILES = (
    (":", ") )) ))) ( (( ((( ] } / | > * 0 3 o O p P x X D"),
    (";", ") D"),
    ("8", ") D"),
    (":'", ") ("),
)
"""Eyes, and the mouths that go with them, with a nose (-) between or without."""

FACES = r"""
    (: (-: (; (-; (-8 ): )-: [: [-: =) (= =( =] ]= =[ [= =/ =| =3 =D :1 :() :o) (o: >:( >:o xD XD xDD XDD
    ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__- v.v V.V v_v V_V @_@ <3 <33 <333 </3
    o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o
    (^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>
"""

DEGREES = "cfkCFK"


def _contractions() -> Iterator[Cut]:
    """Every left part with every ending, with apostrophes and without."""
    for lefts, endings in CONTRACTIONS:
        for left in lefts.split():
            for ending in endings:
                for start in (left, left.title()):
                    cut = (start, *ending.split())
                    yield cut
                    bare = tuple(part.replace("'", "") for part in cut)
                    if "".join(bare).lower() not in OTHER_WORDS:
                        yield bare


def _whole() -> Iterator[str]:
    """What stays one word."""
    for table in (CLIPPED, ABBREVIATIONS, FACES):
        yield from table.split()
    for letter in ONE_LETTER:
        yield f"{letter}."
    for word in DROPPED_G.split():
        yield from (word, word.title(), f"{word}'", f"{word.title()}'")
    for eyes, mouths in SMILES:
        for mouth in mouths.split():
            yield from (eyes + mouth, f"{eyes}-{mouth}")


def _cuts() -> Iterator[Cut]:
    yield from _contractions()
    yield from (tuple(parts.split()) for parts in CUT.split(","))
    yield from ((str(hour), half) for hour in HOURS for half in HALVES_OF_THE_DAY)
    yield from (("°", unit, ".") for unit in DEGREES)
    yield from ((chunk,) for chunk in _whole())


def special_cases() -> dict[str, Cut]:
    """Each chunk that is cut in a way of its own, and its words."""
    straight = list(_cuts())
    curly = (tuple(part.replace("'", "’") for part in cut) for cut in straight)
    return {"".join(cut): cut for cut in (*straight, *curly)}
