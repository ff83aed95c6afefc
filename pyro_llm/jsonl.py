"""Files of JSON, one value a line, whatever bytes they hold."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyro_llm.errors import OutputPathError, ProblemFileError


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line numbers and values, read one by one; empty lines are skipped.

    Raises:
        ProblemFileError: the file cannot be read, or a line is not JSON in UTF-8; it names the line.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield number, _parse(line.rstrip(b"\r\n"), f"{path}:{number}")
    except (OSError, ValueError) as error:
        if isinstance(error, ProblemFileError):
            raise
        raise ProblemFileError(f"Cannot read {str(path)!r}: {error}.") from error


def _parse(line: bytes, place: str) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ProblemFileError(
            f"{place}: not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}. Save the file as UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        raise ProblemFileError(f"{place}: not JSON: {error.msg} at column {error.colno}.") from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise ProblemFileError(f"{place}: {error}.") from error
    except RecursionError as error:
        raise ProblemFileError(f"{place}: nested too deeply.") from error


def append_line(path: Path, line: str) -> None:
    """Write a further line, and wait until the disk has it.

    Raises:
        OutputPathError: the file cannot be written to.
    """
    try:
        with path.open("a", encoding="utf-8", newline="\n") as lines:
            lines.write(line + "\n")
            lines.flush()
            os.fsync(lines.fileno())
    except OSError as error:
        raise OutputPathError(f"Cannot append to {str(path)!r}: {error.strerror or error}.") from error


def mend(path: Path, is_whole: Callable[[bytes], bool]) -> bool:
    """Take off a last line that has no end, as an interrupted writer leaves it; whether there was one.

    Of a whole value only the end of the line is missing; it is put there, and nothing taken off.

    Args:
        path: the file; it need not exist.
        is_whole: whether a line without its end is a whole value.

    Raises:
        OutputPathError: the file cannot be changed.
    """
    try:
        if not path.exists():
            return False
        with path.open("r+b") as file:
            content = file.read()
            if not content or content.endswith(b"\n"):
                return False
            start = content.rfind(b"\n") + 1
            if not is_whole(content[start:]):
                file.truncate(start)
                return True
            file.write(b"\n")
            return False
    except OSError as error:
        raise OutputPathError(f"Cannot write to {str(path)!r}: {error.strerror or error}.") from error
