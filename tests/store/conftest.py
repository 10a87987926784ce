"""A store on each database: SQLite, and a real PostgreSQL started for the tests on a free port."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector.store import engine
from inspector.store.engine import Store
from tests.postgres import TestPostgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[TestPostgres]:
    """A server for all tests here that leave it running."""
    server = TestPostgres()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    server: TestPostgres = request.getfixturevalue("postgres")
    return server.create(f"t{abs(hash(str(tmp_path)))}")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    engine.upgrade(url)
    store = engine.open_store(url)
    yield store
    store.close()
