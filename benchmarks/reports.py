"""A report of a benchmark, there as a whole or not at all."""

from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write a report beside its place, then put it there in one step."""
    partial = path.with_suffix(".partial")
    partial.write_text(text.rstrip() + "\n", encoding="utf-8")
    partial.replace(path)
