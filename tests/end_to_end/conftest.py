"""Fixtures of the whole line."""

from tests.end_to_end.plant import line, taught_line

__all__ = ["line", "taught_line"]
