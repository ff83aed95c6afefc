"""A line of LaTeX or Markdown as the plain text that equations are read from."""

from __future__ import annotations

import re

UNREAD = "\\"
"""What stands for a command that is not understood: no number beside it is taken for a side of an equation."""

_BRACED = [
    (re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:boxed|mathrm|mathbf|mathit)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\(?:text|textbf|textit|textrm)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\^\s*\{([^{}]*)\}"), r"^(\1)"),
]
_COMMANDS = [
    (re.compile(r"(?<=\d)\{,\}(?=\d)"), ","),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\approx(?![A-Za-z])"), "≈"),
    (re.compile(r"\\(?:[Rr]ightarrow|[Ll]ongrightarrow|implies|to|therefore|q?quad)(?![A-Za-z])|\\\\"), " ; "),
    (re.compile(r"\\[dl]?dots(?![A-Za-z])"), "…"),
    (re.compile(r"\\(?:left|right)(?![A-Za-z])|\\[,;!:() \[\]]|&(?==)"), " "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\?[$€£¥₹]"), " "),
    (re.compile(r"\\[A-Za-z]+|\b0[xX](?=[\da-fA-F])"), UNREAD * 2),
]
_POWER = re.compile(r"(?<=[\d)])(?:\*\*| \*\* )(?=[-\d(])")  # other pairs of asterisks are bold face
_SIGNS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "−": "-", "\N{NO-BREAK SPACE}": " "})
_TIMES = re.compile(r"(?<=[\d)%])(\s*)[xX](\s*)(?=[-(.\d])")  # 3 x 4, but neither 3x + 4 nor x = 4
_OF = re.compile(r"(?<=%)\s+of\s+(?=[\d(.])")
_NOT_EQUAL = re.compile(r"[<>!:~]=")
_DEPTH = 8  # braces within braces


def plain(line: str) -> str:
    r"""The line with `+ - * / ^ = ≈`, and `UNREAD` for the commands of LaTeX that are not understood.

    Example:
        >>> plain(r"$2^{3} \times \frac{\frac{6}{2}}{4} = 6$, **3 x 4** = \sqrt{144}")
        ' 2^(3) * ((((6)/(2)))/(4)) = 6 ,  3 * 4  = \\{144}'
    """
    for _ in range(_DEPTH):
        before = line
        for pattern, replaced in _BRACED:
            line = pattern.sub(replaced, line)
        if line == before:
            break
    for pattern, meaning in _COMMANDS:
        line = pattern.sub(meaning, line)
    line = _POWER.sub("^", line).replace("**", " ").translate(_SIGNS)
    line = _OF.sub(" * ", _TIMES.sub(r"\1*\2", line).replace("==", "="))
    return _NOT_EQUAL.sub(" ; ", line)
