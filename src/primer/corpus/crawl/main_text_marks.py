"""What a tag says about its element before any text is read: content, boilerplate, inline, hidden.

The judgement follows trafilatura 2.3 (Barbaresi 2021, `settings.py` and `xpaths.py`) in its precise mode without
comments, links, images and formatting: the words it looks for in `class` and `id` are facts taken over; they are
matched here once per distinct tag, not once per element and rule.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


def words(text: str) -> frozenset[str]:
    """A set of words."""
    return frozenset(text.split())


# What happens to an element while the tree is built.
CLOSE, NODE, LINK, INLINE, BRITTLE, SPAN, DROP, FORM, FIGURE, MATH = range(10)

# Judgements, as bits.
COMMENT: Final = 1  # readers' comments, endless scrolling: never read
GUARDED: Final = 2  # boilerplate by its name, unless that were nearly all of the page
UNWANTED: Final = 4  # teasers, captions, headers, page ends
FRAMES: Final = (8, 16, 32, 64, 128)  # names of the element that holds the article, best first
CODE_BOX: Final = 256
HIGHLIGHT: Final = 512  # its children are code
CODE_LANGUAGE: Final = 1024  # it says itself that it is code
HIDDEN: Final = 4096  # hidden or boilerplate by name before lists get their names; for main_text_score
LAYOUT: Final = 8192  # a table that is none
COLUMNS: Final = 16  # a cell's span, from this bit on, in seven bits; 0 says one
ROWS: Final = 24
EXTRAS: Final = 2048  # what `justext` never reads

DROPPED: Final = words(
    "aside embed fencedframe footer head iframe menu object script applet audio canvas map picture svg "
    "video area blink button datalist dialog frame frameset fieldset link input label legend marquee "
    "menuitem nav noindex noscript optgroup option output param progress rp rt rtc select source style "
    "track textarea time use"
)
UNWRAPPED: Final = words(
    "abbr acronym address bdi bdo big cite data dfn font hgroup img ins mark meta nobr ruby small tbody "
    "template tfoot thead wbr kbd samp tt var u sub sup"
)
BRITTLE_TAGS: Final = frozenset(
    ("b", "em", "i", "strong")
)  # unwrapped; if empty, trafilatura loses what follows
LISTS: Final = frozenset(("dl", "ol", "ul"))
_ITEMS: Final = frozenset(("dd", "dt", "li"))
RENAMED: Final = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6", "summary"), "head"),
    **dict.fromkeys(("br", "hr"), "lb"),
    **dict.fromkeys(("blockquote", "q"), "quote"),
    **dict.fromkeys(("s", "strike"), "del"),
    **dict.fromkeys(("dl", "ol", "ul"), "list"),
    "details": "div",
}
# Emptied of text and children, these go, and trafilatura's precise mode loses the text behind them.
_CUT: Final = words(
    "article blockquote dd div dt h1 h2 h3 h4 h5 h6 li main p pre q section span b em i strong"
)
BOX, LIST, PRE, ITEM = 1, 2, 4, 8  # roles, as bits
_ROLES: Final = {
    **dict.fromkeys(("div", "p", "table"), BOX),
    **dict.fromkeys(LISTS, LIST),
    "li": BOX | ITEM,
    "dd": ITEM,
    "dt": ITEM,
    "pre": PRE,
}
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_NAMEABLE = LISTS | _ITEMS | {"div", "p", "section", "span", "details"}
_FRAMEABLE = frozenset(("article", "div", "main", "section"))

_ATTRIBUTE = re.compile(r'([^\s="]+)="([^"]*)"')


def _any(*parts: str) -> re.Pattern[str]:
    return re.compile("|".join(" ".join(parts).split()))


_COMMENT_ID = re.compile(r"^(?:[Cc]omment(?!ary)|comol|disqus_thread|dsq-comments)")
_COMMENT_CLASS = re.compile(r"^[Cc]omment(?!ary)|(?:article|post)-comments")
_ENDLESS = re.compile(r"mvp-post-add-(?:box|wrap)|infinite-?scroll")
_EITHER = "^shar social viral newsletter syndication tags sidebar banner bread-?crumb button author"
_GUARDED_ID = _any(
    _EITHER, "^jp- ^dpsp-content bmdh [fF]ooter [sS]hare [nN]av menu related message-container premium ^ad-"
)
_GUARDED_CLASS = re.compile(
    _any(
        _EITHER,
        "^nav ^post-nav ^ZendeskForm subnav avigation navbox menu bar -ad- dfp[Aa]d outbrain taboola criteo",
        "paid-?content widget [fF]ooter [bB]yline share- sociable embed tag-list consent modal-content permission",
        "elated next- -stories most-popular more-on meta rating attachment timestamp user-info user-profile -icon",
        "article-infos message-container slide viewport overlay options expand obfuscated blurred mol-factbox yin",
        "zlylin nfoline",
    ).pattern
    + "|(?:^| )ad-| ad "
)
_HIDDEN_CLASS = re.compile(
    r"^hide-|comments-title|nocomments|-reply-|message|akismet|suggest-links|-hide-|hide-print| hidden| hide|noprint"
    r"|notloaded"
)
_HIDDEN_ID = re.compile(r"reader-comments|akismet")
_END = re.compile(r"(?:^|\s)(?:bottom|link(?:\s|$))|bottom(?:\s|$)")
_ARTICLE_ID = _any(
    "(?:entry|article|art)-content article__content article(?:-|__)?body articleBody body-text"
)
_ARTICLE_CLASS = _any(
    "post[-_]text post-body post-?entry post[-_]?content postContent post_inner_wrapper article-?text articleText",
    "(?:entry|page|text|article|art)-content article__content article(?:-|__)?body articleBody ArticleContent",
    "body-text article__container",
)
_STORY_ID = _any("^primary story-body")
_STORY_CLASS = re.compile(
    _any(
        "post-bodycopy story-?content (?:theme|blog|section|single)-content single-post main-column",
        "wpb_text_column story-body field-body (?i:fulltext)",
    ).pattern
    + "|^article "
)
_MAIN_ID = _any("content-main content-body contentBody [mM]ain-[cC]ontent")
_MAIN_CLASS = _any("content[-_]main content(?:-|__)body [mM]ain-[cC]ontent [pP]age-[cC]ontent")
_COOKIES = re.compile(
    r"cookie[-_]?(?:banner|bar|consent|law|notice|policy|description)|notice[-_]{0,2}cookie"
    r"|consent[-_]?(?:banner|manager|sdk)|borlabs|cookiebot|cmplz|onetrust|moove[-_]?gdpr",
    re.IGNORECASE,
)


class Mark(NamedTuple):
    """One kind of start or end tag.

    `kind` is what the builder does, `flags` the judgements, `empty` self-closing; `name` is what a kept element is
    called, `role` its part in counting, `cut` whether it goes when it is empty.
    """

    kind: int
    tag: str
    flags: int
    empty: bool
    name: str
    role: int
    cut: bool


def attributes(raw: str) -> dict[str, str]:
    """Of a serialised start tag without its angle brackets."""
    return dict(_ATTRIBUTE.findall(raw))


class Marks(dict[str, Mark]):
    """The judgement on each serialised tag without its angle brackets, such as `div class="nav"`, `br/` or `/p`."""

    def __missing__(self, raw: str) -> Mark:
        found = self[raw] = _judge(raw)
        return found

    def bound(self) -> None:
        """Forget all, if there is too much to remember."""
        if len(self) > 20_000:
            self.clear()


def _judge(raw: str) -> Mark:
    if raw[0] == "/":
        return _mark(CLOSE, raw[1:], 0, empty=False)
    empty = raw[-1] == "/"
    tag = raw.split(" ", 1)[0].rstrip("/")
    kind = _KINDS.get(tag, NODE)
    if kind in (INLINE, BRITTLE, DROP) or " " not in raw:
        return _mark(kind, tag, _flags(tag, {}), empty=empty)
    found = attributes(raw)
    flags = _flags(tag, found)
    if tag == "table" and found.get("role") in ("presentation", "none"):
        flags |= LAYOUT
    return _mark(kind, tag, flags, empty=empty)


def _mark(kind: int, tag: str, flags: int, *, empty: bool) -> Mark:
    return Mark(kind, tag, flags, empty, RENAMED.get(tag, tag), _ROLES.get(tag, 0), tag in _CUT)


MARKS: Final = Marks()


_KINDS: Final = {
    **dict.fromkeys(DROPPED, DROP),
    **dict.fromkeys(UNWRAPPED, INLINE),
    **dict.fromkeys(BRITTLE_TAGS, BRITTLE),
    "a": LINK,
    "span": SPAN,
    "form": FORM,
    "figure": FIGURE,
    "math": MATH,
}


def _flags(tag: str, found: dict[str, str]) -> int:
    flags = UNWANTED if tag == "header" else 0
    if tag in _FRAMEABLE:
        flags |= _frame(tag, found)
    if not found:
        return flags
    name, kind = found.get("id", ""), found.get("class", "")
    first = next((value for key, value in found.items() if key in ("id", "class")), "")
    if tag in _NAMEABLE:
        flags |= _named(tag, found, name, kind, first)
    if flags & GUARDED and tag in ("div", "p", "section", "span"):
        flags |= HIDDEN
    if _hidden(found, name, kind, first):
        flags |= HIDDEN if tag in _HEADINGS else HIDDEN | GUARDED
    if "w3-code" in kind and tag == "div":
        flags |= CODE_BOX
    if "highlight" in kind:
        flags |= HIGHLIGHT
    if tag in ("td", "th"):
        flags |= _span(found.get("colspan", "")) << COLUMNS | _span(found.get("rowspan", "")) << ROWS
    if found.get("lang"):
        flags |= CODE_LANGUAGE
    if (tag == "div" and "footer" in first) or _COOKIES.search(kind) or _COOKIES.search(name):
        flags |= EXTRAS
    return flags


def _span(value: str) -> int:
    return min(int(value), 100) if value.isdecimal() else 0


def _named(tag: str, found: dict[str, str], name: str, kind: str, first: str) -> int:
    flags = 0
    if (
        tag not in ("p", "span")
        and tag not in _ITEMS
        and (_COMMENT_ID.search(name) or _COMMENT_CLASS.search(kind))
    ):
        flags |= COMMENT
    if tag in ("div", "section") and (
        _ENDLESS.search(name) or _ENDLESS.search(kind) or "elementor-share-buttons" in kind
    ):
        flags |= COMMENT
    if (
        "cookie" in first
        or _GUARDED_ID.search(name)
        or _GUARDED_CLASS.search(kind)
        or "nav" in found.get("role", "").replace("N", "n")
        or "data-lp-replacement-content" in found
        or "MostPopularStories" in found.get("data-component", "")
    ):
        flags |= GUARDED
    named = f"{name} {kind}"
    if "caption" in named or ("easer" in named and "teaser" in named.replace("T", "t")):
        flags |= UNWANTED
    if _END.search(first) or "border" in found.get("style", ""):
        flags |= UNWANTED
    return flags


def _hidden(found: dict[str, str], name: str, kind: str, first: str) -> bool:
    style = found.get("style", "")
    return bool(
        "hidden" in next((value for key, value in found.items() if key in ("id", "style")), "")
        or "display:none" in style
        or "display: none" in style
        or first.startswith("reply-")
        or found.get("aria-hidden") == "true"
        or _HIDDEN_CLASS.search(kind)
        or _HIDDEN_ID.search(name)
    )


def _frame(tag: str, found: dict[str, str]) -> int:
    name, kind = found.get("id", ""), found.get("class", "")
    role = found.get("role", "")
    flags = 0
    if (
        kind in ("post", "entry")
        or found.get("itemprop") == "articleBody"
        or name == "articleContent"
        or _ARTICLE_ID.search(name)
        or _ARTICLE_CLASS.search(kind)
    ):
        flags |= FRAMES[0]
    if tag == "article":
        flags |= FRAMES[1]
    if (
        role == "article"
        or name in ("article", "story")
        or kind in ("postarea", "art-postcontent", "text", "cell", "story")
        or _STORY_ID.search(name)
        or _STORY_CLASS.search(kind)
    ):
        flags |= FRAMES[2]
    if name == "content" or kind == "content" or _MAIN_ID.search(name) or _MAIN_CLASS.search(kind):
        flags |= FRAMES[3]
    if tag == "main" or any(value.startswith("main") for value in (kind, name, role)):
        flags |= FRAMES[4]
    return flags
