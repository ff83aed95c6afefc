"""Output files: known to be writable before long work, and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from pyro_llm.errors import OutputPathError


def check_writable(path: str | os.PathLike[str]) -> Path:
    """The path, if a file can be written there; call it before work that takes long.

    Raises:
        OutputPathError: the path is a folder, its folder is missing, or nothing can be written there.
    """
    try:
        return _checked(Path(path).expanduser())
    except OutputPathError:
        raise
    except (
        OSError,
        ValueError,
        RuntimeError,
        TypeError,
    ) as error:  # too long, NUL in it, no home, no path
        raise OutputPathError(f"Cannot write to {str(path)!r}: {getattr(error, 'strerror', None) or error}.") from error


def _checked(path: Path) -> Path:
    if path.is_dir():
        raise OutputPathError(f"Cannot write to {str(path)!r}: it is a folder. Give the name of a file in it.")
    if not path.parent.is_dir():
        raise OutputPathError(
            f"Cannot write to {str(path)!r}: there is no folder {str(path.parent)!r}. Create it first."
        )
    with suppress(FileNotFoundError):
        os.stat(path)  # the name may be too long, which that of the probe is not
    probe = _beside(path)
    probe.touch(exist_ok=False)
    probe.unlink()
    return path


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, moved there when the block ends well and removed when it does not.

    Raises:
        OutputPathError: as `check_writable`, or writing failed.
    """
    path = check_writable(path)
    temporary = _beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputPathError(f"Cannot write to {str(path)!r}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    # The suffix stays: writers choose their format by it.
    return path.with_name(f".{uuid4().hex[:12]}{path.suffix}")
