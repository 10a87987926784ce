"""The three pages in a real browser, on a database as a working line leaves it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inspector.contract.broker import free_port
from inspector.contract.codes import StationState
from inspector.store import stations
from tests.browser import served
from tests.dashboard import seed
from tests.dashboard.seed import Scene

SLOW_MS = 30_000


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, str]]:
    folder = tmp_path_factory.mktemp("line")
    scene = seed.busy(folder, parts=60, pictures=10, port=free_port())
    with served(scene.config, scene.config_path, folder / "dashboard.log") as address:
        yield scene, address
    scene.store.close()


@pytest.fixture
def page(chromium: Any, line: tuple[Scene, str]) -> Iterator[Any]:
    """A tab in which no script may fail."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    tab = context.new_page()
    tab.set_default_timeout(SLOW_MS)
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    yield tab
    context.close()
    assert faults == []


def test_the_first_visitor_with_a_deep_link_sees_the_page_and_not_an_empty_one(
    page: Any, line: tuple[Scene, str]
) -> None:
    page.goto(f"{line[1]}/products")

    page.get_by_role("button", name="Teach a product").wait_for()
    page.get_by_text("References (10)").wait_for()


def test_live_renews_itself_and_shows_a_worker_that_goes_away(page: Any, line: tuple[Scene, str]) -> None:
    scene, address = line
    seed.alive(scene)
    page.goto(address)
    page.get_by_text("● Running").wait_for()
    page.get_by_text("threshold 0.4320 (provisional, n = 10)").wait_for()
    page.locator(".vi-newest img").nth(1).wait_for()
    page.locator(".vi-strip a").nth(11).wait_for(state="attached")
    page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg").first.wait_for()

    seed.alive(scene, StationState.HALTED)
    page.get_by_text("■ Stopped").wait_for()
    page.get_by_text("■ Worker not running").wait_for()  # nobody writes a sign of life any more
    assert page.get_by_role("button", name="Start").is_disabled()


def test_new_parts_appear_without_a_reload(page: Any, line: tuple[Scene, str]) -> None:
    scene, address = line
    page.goto(address)
    page.locator(".vi-newest").wait_for()
    with scene.store.read() as session:
        recipe = stations.active_recipe(session, scene.station_id)
    assert recipe is not None

    seed.inspect(scene, recipe, "flange", range(500, 501), datetime.now(UTC), pictures=1)

    page.locator(".vi-newest", has_text="flange:000500").wait_for()


def test_a_part_of_the_strip_leads_to_all_its_data(page: Any, line: tuple[Scene, str]) -> None:
    page.goto(line[1])
    card = page.locator(".vi-strip a").nth(3)
    name = card.locator(".vi-small").inner_text().split("\n")[0]
    card.click()

    page.locator(".vi-verdict", has_text=name).wait_for()
    page.get_by_role("tab", name="Timing").click()
    page.get_by_text("Exposure to verdict").wait_for()


def test_history_gives_its_rows_as_a_file(page: Any, line: tuple[Scene, str], tmp_path: Path) -> None:
    page.goto(f"{line[1]}/history")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "verdicts.csv")

    lines = (tmp_path / "verdicts.csv").read_text().splitlines()
    assert lines[0].startswith("id,captured_at,part,trg")
    assert "flange" in lines[1]


def test_choosing_a_row_shows_its_part(page: Any, line: tuple[Scene, str]) -> None:
    page.goto(f"{line[1]}/history")
    page.locator(".vi-verdict").wait_for()
    before = page.locator(".vi-verdict").inner_text()
    table = page.locator("[data-testid=stDataFrame]").first.bounding_box()
    page.mouse.click(table["x"] + 190, table["y"] + 36 + 35 * 4 + 15)

    page.wait_for_function("before => document.querySelector('.vi-verdict').innerText !== before", arg=before)
