"""The line above each page: how old the data are, on every page, also when nobody renews them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dashboard import tiles
from inspector.contract.broker import free_port
from inspector.store import stations
from tests.browser import served
from tests.dashboard import seed
from tests.dashboard.seed import Scene

PAGES = ("live", "products", "review", "study", "health", "history")
SLOW_MS = 30_000
READ = (datetime(2026, 5, 4, 14, 3, 22, tzinfo=UTC), 300.0)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, str]]:
    folder = tmp_path_factory.mktemp("line")
    scene = seed.busy(folder, parts=30, pictures=4, port=free_port())
    with served(scene.config, scene.config_path, folder / "dashboard.log") as address:
        yield scene, address
    scene.store.close()


@contextmanager
def alive(scene: Scene) -> Iterator[None]:
    """A worker writes its state."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(0.5):
            seed.alive(scene)

    seed.alive(scene)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("name", PAGES)
def test_each_page_says_how_old_its_data_are_and_marks_them_when_the_worker_is_away(
    chromium: Any, line: tuple[Scene, str], name: str
) -> None:
    scene, address = line
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(SLOW_MS)
    with alive(scene):
        page.goto(f"{address}/{name if name != 'live' else ''}")
        page.locator(".vi-age:not(.old)", has_text="line1 · data as of").wait_for()

    with scene.store.write() as session:
        stations.set_status(session, scene.station_id, {"st": 7}, datetime.now(UTC) - timedelta(minutes=10))
    page.locator(".vi-age.old", has_text="⚠ line1 · data as of 10 min ago: the worker does not run").wait_for()
    renewed = name in ("live", "products", "health")
    assert ("this page was read at" in page.locator(".vi-age").inner_text()) is not renewed
    page.close()


@pytest.mark.parametrize(
    ("age_s", "read", "said", "is_old"),
    [
        (2.04, None, "line1 · data as of 2.0 s ago", False),
        (-0.3, None, "line1 · data as of 0.0 s ago", False),
        (5.1, None, "⚠ line1 · data as of 5.1 s ago: the worker does not run", True),
        (None, None, "⚠ line1 · no data: no worker has been here yet", True),
        (-3600.0, None, "⚠ line1 · data from the future, 60 min ahead: a clock is wrong", True),
        (1.0, READ, "line1 · data as of 1.0 s ago · this page was read at 14:03:22, 5 min ago", False),
    ],
)
def test_the_age_is_told_in_words(
    age_s: float | None, read: tuple[datetime, float] | None, said: str, is_old: bool
) -> None:
    html = tiles.age("line1", age_s, read)

    assert f">{said}</div>" in html
    assert ('class="vi-age old"' in html) is is_old
