"""Fixtures that more than one package of tests uses.

The browser is here so that all of them share one: Playwright refuses a second driver in the same process.
"""

from tests.browser import chromium

__all__ = ["chromium"]
