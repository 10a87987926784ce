"""A running broker of each kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import KINDS, TestBroker


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBroker]:
    running = TestBroker(request.param, tmp_path)
    yield running
    running.close()
