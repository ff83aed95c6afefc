"""What stands before and after numbers in prose, and whether they are all of a side of an equation then.

`5 + 3` is a side in "So he has 5 + 3 = 8", and only a part of one in "twice 5 + 3 = 13", "√5 + 3" or "10 plus 5 + 3".
What is in doubt is left alone.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum

_NEAR = 200  # characters that are looked at


class Beginning(Enum):
    """What may be read of what follows: nothing, expressions only, or lone numbers too."""

    PART = 0
    EXPRESSION = 1
    CLAUSE = 2


def _words(words: str) -> str:
    return rf"\b(?:{'|'.join(words.split())})\b"


_CLAUSE_END = re.compile(
    r"[;:!?=≈<>≤≥→⇒∴|]|\.(?!\d)|(?<!\d),|\b(?:equals?|equal|up|comes?|amounts?)\s+to\b|"
    + _words(
        "so thus hence therefore then because since is are was were be being equals gives give got get gets getting "
        "has have had that which where means makes make leaves yields"
    ),
    re.IGNORECASE,
)
_PARTS = "half halves thirds? quarters? fourths? fifths? sixths? sevenths? eighths? ninths? tenths? hundredths?"
_OPERATION = re.compile(
    _words(
        f"{_PARTS} twice thrice double doubled doubling triple tripled tripling quadruple square squared squares cube "
        "cubed root roots log ln lg exp sin cos tan sqrt abs floor ceil ceiling round rounded factorial average mean "
        "median mode max min maximum minimum gcd lcm negative opposite inverse reciprocal absolute plus minus times "
        "than over off mod modulo choose percent power"
    ),
    re.IGNORECASE,
)
_OF_TWO = re.compile(
    _words(
        r"sum difference product quotient ratio remainder total add\w* subtract\w* multipl\w+ divid\w+ increase\w* "
        r"decrease\w* reduc\w+ rais\w+ take\w* between to by from into per with of"
    ),
    re.IGNORECASE,
)
_NUMERALS = _words("one two three four five six seven eight nine ten eleven twelve twenty hundred")
_AMOUNT = re.compile(rf"\d|{_NUMERALS}", re.IGNORECASE)
_AND = re.compile(rf"(?:[\d)%]|{_NUMERALS})\s+and$", re.IGNORECASE)
_RESULT = re.compile(r"=[^=\w]*[\d.,%)\s]+?(?:,|\band)$")
_LABEL = re.compile(
    _words(
        "step part case day week month year hour minute round question problem exercise example equation method option "
        "line page item stage phase group team level chapter section number trial turn"
    )
    + "$",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\W*(?:(?:with|and|has|leaving)\s+)?(?:a\s+)?(?:remainder|rem\b|r\s*\d)|(?:and|by|over|to)\s+\d+(?:/\d|\b(?!\s*[-+*/^=]))|"
    r"(?:more|less|fewer|greater|larger|smaller)\s+than|to\s+the\b|[xyznijk]\b|(?:and\s+)?(?:a\s+)?(?:\w+\s+)?"
    + _words(_PARTS)
    + "|"
    + _words(
        "times plus minus mod modulo multiplied divided increased decreased squared cubed choose of factorial point "
        "percent dozens? hundreds? thousands? [mb]illions? trillions?"
    ),
    re.IGNORECASE,
)
_RELATIONS = "<>≤≥→⇒⟶⟹∴∵"


def beginning(line: str, start: int) -> Beginning:
    """What may be read from the numbers that begin at `start`.

    Example:
        >>> [beginning(text, len(text)).name for text in ("So ", "He says ", "3 plus ", "Half of ", "√")]
        ['CLAUSE', 'EXPRESSION', 'PART', 'PART', 'PART']
    """
    before = line[max(0, start - _NEAR) : start]
    head = before.rstrip()
    if not head:
        return Beginning.CLAUSE
    spaced = head != before or line[start : start + 1].isspace()
    if unicodedata.category(head[-1]).startswith("L"):
        return _after_words(head) if spaced else Beginning.PART
    return _after_sign(head, spaced)


def _after_words(head: str) -> Beginning:
    clause = head[max((match.end() for match in _CLAUSE_END.finditer(head)), default=0) :]
    last = re.split(r"[\W\d_]+", head)[-1]
    if not clause.strip():
        return Beginning.CLAUSE
    if _OPERATION.search(clause) or (_OF_TWO.search(clause) and _AMOUNT.search(clause)):
        return Beginning.PART
    if (len(last) == 1 and last not in "aAI") or (_AND.search(head) and not _RESULT.search(head)):
        return Beginning.PART
    return Beginning.EXPRESSION


def _after_sign(head: str, spaced: bool) -> Beginning:
    last, kind = head[-1], unicodedata.category(head[-1])
    after_number = head[-2:-1].isdigit() or head[-2:-1] in {")", "%"}
    if last == ",":
        if not after_number or (spaced and _RESULT.search(head)):
            return Beginning.CLAUSE
        clause = head[max((match.end() for match in _CLAUSE_END.finditer(head)), default=0) :]
        return Beginning.EXPRESSION if spaced and not _OPERATION.search(clause) else Beginning.PART
    if last == ":" and after_number:
        return Beginning.EXPRESSION if spaced else Beginning.PART
    if last in ".:" and re.search(r"\d\s+[.:]$", head):  # 5 . 3 and 3 : 4
        return Beginning.PART
    if last in "!'\"′″’”" and after_number:  # 3! and 5'
        return Beginning.PART
    if last == "]":
        return Beginning.EXPRESSION if spaced else Beginning.PART
    if kind == "Pd":
        return Beginning.CLAUSE if head[:-1].rstrip()[-1:].isalpha() and head[-2:-1].isspace() else Beginning.PART
    if last in _RELATIONS + "|`" or kind in ("Ps", "Pi", "Pf") or (kind == "So" and last != "°"):
        return Beginning.CLAUSE
    return Beginning.CLAUSE if kind == "Po" and last not in "\\#@&%*/" else Beginning.PART


def follows_label(line: str, start: int) -> bool:
    """Whether a number at `start` may be that of a step: Step 1."""
    return _LABEL.search(line[max(0, start - _NEAR) : start].rstrip()) is not None


def goes_on(line: str, end: int) -> bool:
    """Whether numbers that end at `end` may be only the first part of a side.

    Example:
        >>> [goes_on("= 3" + text, 3) for text in (" apples.", " remainder 2", " times as many", "²", ":8", "!")]
        [False, True, True, True, True, False]
    """
    after = line[end : end + _NEAR]
    tail = after.lstrip()
    if not tail:
        return False
    first, kind = tail[0], unicodedata.category(tail[0])
    if _AFTER.match(tail):
        return True
    if kind.startswith("L"):
        return tail == after and not line[end - 1 : end].isspace()
    if first in ":,":
        return re.match(r"\s*:\s*\d|,\d", after) is not None
    if kind == "Pd":
        return re.match(r".\s*[\d(]", tail) is not None
    if first == "|":
        return re.match(r"\|(?!\s|$)", tail) is not None
    return first in "\\_{#@&~" or (kind[0] in "NM") or (kind == "Sm" and first not in _RELATIONS)
