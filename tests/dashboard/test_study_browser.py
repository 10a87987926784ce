"""A study from its making to its printed report, in a real browser with the keys that operators press."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api as playwright

from inspector.contract.broker import free_port
from inspector.store import studies
from inspector.store.labels import DEFECT, GOOD
from inspector.study import result as results
from tests.browser import served
from tests.dashboard import seed
from tests.dashboard.seed import Scene

SLOW_MS = 30_000
PARTS, ROUNDS = 6, 2
LOOK_MS = 600  # a quicker key is not taken for an answer
NEW_QUESTION = """before => {
  const good = document.querySelector('[class*="st-key-study-good"]');
  return good && good.className !== before && good.className;
}"""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, str]]:
    folder = tmp_path_factory.mktemp("line")
    scene = seed.busy(folder, parts=80, pictures=30, port=free_port())
    with served(scene.config, scene.config_path, folder / "dashboard.log") as address:
        yield scene, address
    scene.store.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A tab in which no script may fail."""
    context = chromium.new_context(viewport={"width": 1024, "height": 768}, accept_downloads=True)
    tab = context.new_page()
    tab.set_default_timeout(SLOW_MS)
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    yield tab
    context.close()
    assert faults == []


def make(page: Any) -> None:
    """What an engineer does: title, names, fewer parts, a truth for each, one impatient double click."""
    page.get_by_label("Title").fill("Shift A")
    page.get_by_label("Operators, one name a line").fill("Anna\nBen")
    page.get_by_label("Title").click()
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("Home")
    page.get_by_role("button", name=f"Make the study of {PARTS} parts").wait_for()
    for place in range(PARTS):
        page.get_by_text(f"{PARTS - place} of unknown truth").wait_for()  # the page has been drawn with what was chosen
        box = page.get_by_role("combobox", name="Truth of").nth(place)
        option = page.get_by_role("option", name=GOOD if place % 2 else DEFECT, exact=True)
        for _ in range(10):  # a key that comes while the page is drawn anew opens nothing
            box.focus()
            box.press("ArrowDown")
            with contextlib.suppress(playwright.TimeoutError):
                option.wait_for(timeout=3000)
                break
        option.click()
        page.get_by_role("option").first.wait_for(state="detached")
    page.get_by_text("3 good, 3 defects, 0 of unknown truth; 12 answers each.").wait_for()
    page.get_by_role("button", name=f"Make the study of {PARTS} parts").dblclick()
    page.get_by_text("Who judges now?").wait_for()


def judge(page: Any, operator: int, keys: str, *, first: int = 1) -> None:
    """Press one key for each part from the `first` on; a round's break is passed by its button."""
    page.get_by_test_id("stButton").get_by_role("button", name="Begin").or_(
        page.get_by_role("button", name="Go on")
    ).nth(operator).click()
    asked = ""
    for number, key in enumerate(keys, first):
        page.get_by_text(f"part {number} of {PARTS * ROUNDS} ·").wait_for()
        if number == PARTS + 1 and first <= PARTS:
            page.get_by_role("button", name="Begin round 2").click()
        asked = page.wait_for_function(NEW_QUESTION, arg=asked).json_value()
        page.wait_for_timeout(LOOK_MS)
        page.keyboard.press(key)
    page.get_by_text(f"part {first + len(keys) - 1} of {PARTS * ROUNDS} ·").wait_for(state="detached")


def test_a_study_is_made_judged_by_two_operators_and_printed(
    page: Any, line: tuple[Scene, str], tmp_path: Path
) -> None:
    scene, address = line
    page.goto(f"{address}/study")
    page.get_by_text("Parts and their truth").wait_for()
    make(page)

    judge(page, 0, "gggd")
    page.keyboard.press("p")
    page.get_by_text("4 of 12 answers").wait_for()
    page.reload()  # the tab is closed over lunch
    page.get_by_text("Who judges now?").wait_for()
    judge(page, 0, "gdgdgdgd", first=5)
    page.get_by_text("Thank you, Anna, that was the last part").wait_for()
    page.get_by_role("button", name="Back to the study").click()
    page.get_by_role("button", name="Finished").wait_for()
    judge(page, 0, "g" * PARTS * ROUNDS)  # Anna's button says "Finished" now, so that Ben's is the first
    page.get_by_role("button", name="Back to the study").click()

    page.get_by_role("heading", name="Against the truth").wait_for()
    page.get_by_role("cell", name="Anna with Ben").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Printable report").click()
    download.value.save_as(tmp_path / "study.html")
    page.goto(f"file://{tmp_path / 'study.html'}")
    page.emulate_media(media="print")
    page.get_by_role("heading", name="Shift A").wait_for()
    pictures = page.locator("img").count()
    assert page.evaluate("document.images.length && [...document.images].every(image => image.naturalWidth > 0)")

    with scene.store.read() as session:
        (study,) = studies.list_studies(session)
        result = results.load(session, study.id)
    assert result.finished == ("Anna", "Ben")
    assert result.agreement is not None
    assert pictures == sum(part.disputed for part in result.parts) >= 3  # Ben called every defect good
    of_ben = result.agreement.operators[1]
    assert of_ben.miss is not None
    assert (of_ben.miss.rate, of_ben.miss.parts) == (1.0, 3)
    assert of_ben.within is not None
    assert of_ben.within.rate == 1.0
    assert all(0.3 <= seconds_s < 30.0 for seconds_s in result.median_s.values())
    assert result.created_at <= datetime.now(UTC)
