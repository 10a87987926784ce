"""Every normative statement for an edge node has a test that names it, or a reason why it needs none."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[2]
LIST = Path(__file__).with_name("assertions.txt")
PREFIX = "tck-id-"


def listed() -> dict[str, str]:
    """Reasons by id; empty for those that a test must cover."""
    lines = [line for line in LIST.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {PREFIX + name.strip(): reason.strip() for name, _, reason in (line.partition("  #") for line in lines)}


def named_by_tests() -> set[str]:
    """Every id in a `tck` marker of a test."""
    named: set[str] = set()
    for path in sorted(TESTS.rglob("test_*.py")):
        for marker in re.findall(r"pytest\.mark\.tck\(([^)]*)\)", path.read_text(encoding="utf-8")):
            named |= set(re.findall(rf"\"({PREFIX}[^\"]+)\"", marker))
    return named


def test_each_statement_is_covered_by_name_or_has_a_reason() -> None:
    must = {name for name, reason in listed().items() if not reason}
    assert must - named_by_tests() == set()


def test_tests_name_no_statement_that_is_not_listed_or_that_does_not_apply() -> None:
    assert named_by_tests() - {name for name, reason in listed().items() if not reason} == set()
