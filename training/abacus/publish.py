"""The published test problems."""

from __future__ import annotations

from rich import print

from training.abacus import files
from training.abacus.problems import draw

TEST_PROBLEMS = 500


def records() -> list[dict[str, str | int]]:
    """The test problems as they are published."""
    return [draw("test", index).record() for index in range(TEST_PROBLEMS)]


def main() -> None:
    """Writes the test problems."""
    files.write_lines(files.TEST, records())
    print(f"test problems: {TEST_PROBLEMS}")


if __name__ == "__main__":
    main()
