"""The walk of an operator, from pictures with a bad one among them to a rollback, while the line runs.

A real broker, a real database, the worker and the dashboard as processes, a browser. At each step: what the operator sees,
what the database says, and what the station tells on the topic `recipe`.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pytest
from playwright import sync_api as playwright
from sqlalchemy import select

from inspector import simulation
from inspector.config import Config
from inspector.contract.broker import free_port
from inspector.contract.codes import ErrorCode
from inspector.contract.virtual_plc import VirtualPlc
from inspector.images import encode_png
from inspector.store import products, stations
from inspector.store.schema import InspectionRow, Label, Recipe
from inspector.types import Verdict
from tests.brokers import KINDS, TestBroker, Witness, wait_until
from tests.browser import served
from tests.end_to_end.plant import PREFIX, Line, parts_come_by, started, teach

NAME, KIND = "gear 24", "gear"
GOOD = 8
SLOW_MS, SLOW_S = 90_000, 90.0
SEED, DEFECT_RATE = 0, 0.3
SCRATCHED = 7
"""The trigger whose part has the scratch that is planted among the good pictures."""
FLANGES_FROM, GEARS_FROM, MORE_FROM, AGAIN_FROM = 5001, 41, 2001, 8001
GEARS, AFTER = 20, 8
"""Triggers 41 to 60: good parts in positions that no reference shows are rejected, and so are plain defects."""


@dataclass
class Walk:
    """The operator's tab, and the line behind it."""

    page: Any
    address: str
    line: Line
    station: Witness
    folder: Path

    @property
    def recipe_topic(self) -> tuple[str, int]:
        """Product and revision that the station told last."""
        told = json.loads(self.station.of(self.line.topics.recipe)[-1])
        return told["name"], told["rev"]

    @property
    def active(self) -> tuple[str, int]:
        """Product and revision that are active by the database."""
        with self.line.store() as store, store.read() as session:
            recipe = stations.active_recipe(session, 1)
            assert recipe is not None
            return recipe.product.name, recipe.rev

    def recipe(self, rev: int) -> Recipe:
        """A revision of the product that is taught here."""
        with self.line.store() as store, store.read() as session:
            recipe = session.scalars(
                select(Recipe).where(Recipe.rev == rev, Recipe.product_id == products.find_product(session, NAME).id)
            ).one()
            assert recipe.references
            assert recipe.product.name == NAME
            return recipe

    def said(self) -> list[tuple[int | None, str]]:
        with self.line.store() as store, store.read() as session:
            found = session.scalars(select(Label).order_by(Label.id))
            return [(one.inspection_id, one.label) for one in found]

    def wait_active(self, name: str, rev: int) -> None:
        """Until operator, database and station agree on what is active."""
        self.page.locator("h2", has_text=f"● active {name}, revision {rev}").wait_for()
        assert self.active == (name, rev)
        wait_until(lambda: self.recipe_topic == (name, rev), SLOW_S)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """A line that makes flanges, with the encoder of the product and all pictures kept."""
    broker = TestBroker(KINDS[0], tmp_path / "broker")
    values: dict[str, Any] = {
        "data_dir": str(tmp_path / "data"),
        "cameras": [{"name": "line", "kind": "simulated", "trigger": "mqtt", "seed": SEED, "defect_rate": DEFECT_RATE}],
        "batching": {"deadline_ms": 20_000, "queue_size": 64},
        "mqtt": {"port": broker.port, "prefix": PREFIX, "heartbeat_ms": 300, "window_ms": 20_000},
        "dashboard": {"port": free_port()},
    }
    (tmp_path / "data").mkdir()
    taught = teach(Config.model_validate(values), ("flange",), active="flange")
    made = Line(tmp_path, broker, taught, values, Witness(broker.port))
    yield made
    made.close()


def pictures_to_teach(folder: Path) -> list[str]:
    """Good parts, one of them out of focus, and a scratched part that somebody took for a good one."""
    folder.mkdir()
    images = {f"good-{number}.png": image for number, image in enumerate(simulation.draw_references(KIND, GOOD))}
    images["shaken.png"] = cv2.GaussianBlur(simulation.draw_references(KIND, GOOD + 1)[-1], (0, 0), 4)
    images["scratched.png"] = simulation.draw_part(KIND, SEED, SCRATCHED, DEFECT_RATE)[0]
    for name, image in images.items():
        (folder / name).write_bytes(encode_png(image))
    return [str(folder / name) for name in images]


def inspected(plc: VirtualPlc, numbers: range) -> None:
    """Parts of the kind come by, each after the verdict on the one before."""
    for number in numbers:
        assert plc.trigger(f"{KIND}:{number:05d}") == number
        plc.wait_decided(SLOW_S)


def upload(walk: Walk, files: list[str]) -> None:
    """A picture out of focus is found before anything is built, with its reason."""
    page = walk.page
    page.goto(f"{walk.address}/products")
    page.get_by_role("button", name="Teach a product").click()
    page.get_by_label("Name of the product").fill(NAME)
    page.get_by_label("Name of the product").press("Enter")
    page.get_by_text("Choose pictures of good parts first.").wait_for()
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_text(f"1 of {len(files)} pictures looks odd").wait_for()
    page.get_by_text("out of focus or moved").wait_for()


def drop_and_build(walk: Walk) -> None:
    """The operator drops it; the scratched one passes the eye and is built in."""
    page = walk.page
    page.get_by_test_id("stCheckbox").filter(has_text="shaken.png").click()
    page.get_by_role("button", name=f"Build from {GOOD + 1} pictures").click()
    page.get_by_text("revision 1 · ").first.wait_for()
    page.get_by_role("heading", name=f"{NAME}, revision 1 ✓ ready").wait_for()


def finding(walk: Walk) -> None:
    """The build finds the scratched part: its picture, its name and the reason are shown."""
    odd = walk.page.locator(".vi-card.odd", has_text="scratched.png")
    odd.locator("img").wait_for()
    odd.get_by_text("unlike all others").wait_for()
    found = {one.name: [finding["kind"] for finding in one.findings] for one in walk.recipe(1).references}
    assert found["scratched.png"] == ["outlier"]
    assert "shaken.png" not in found
    assert walk.active == walk.recipe_topic == ("flange", 1)


def teach_without_it(walk: Walk, files: list[str]) -> None:
    """The operator drops the scratched part: a second revision, from the good pictures alone."""
    page = walk.page
    page.get_by_role("button", name="Teach a product").click()
    page.get_by_label("What do you teach?").click()
    page.get_by_role("option", name=f"A new revision of {NAME}").click()
    page.get_by_label("Name of the product").wait_for(state="detached")
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_role("button", name=f"Build from {GOOD} pictures").click()
    page.get_by_role("heading", name=f"{NAME}, revision 2 ✓ ready").wait_for()
    assert {one.name for one in walk.recipe(2).references} == {Path(file).name for file in files}


def activate(walk: Walk, rev: int) -> None:
    walk.page.get_by_role("button", name="Activate", exact=True).click()
    walk.wait_active(NAME, rev)


def answer(walk: Walk, row: InspectionRow, key: str) -> None:
    """Skip by keyboard until the part is on the screen, then answer by keyboard.

    A key that comes while the page is being drawn answers nothing, so it is pressed again, as a person does.
    """
    page, word = walk.page, {"g": "good", "d": "defect"}[key]
    shown = page.locator("[class*=st-key-card-review] .vi-verdict")
    until_s = time.monotonic() + 2 * SLOW_S
    while (row.id, word) not in walk.said():
        assert time.monotonic() < until_s, page.inner_text("body")[:3000]
        if page.locator("[class*=st-key-review-skip]").count() != 1:
            page.wait_for_timeout(200)
            continue
        before = shown.inner_text()
        page.keyboard.press(key if row.part in before else "s")
        with contextlib.suppress(playwright.TimeoutError):
            page.wait_for_function(
                "before => document.querySelector('[class*=st-key-card-review] .vi-verdict')?.innerText !== before",
                arg=before,
                timeout=5000,
            )
    page.locator("[class*=st-key-card-last]", has_text=row.part).wait_for()


def review(walk: Walk) -> None:
    """What waits for a person: nothing undecided yet, the rejects with their heat maps, and OK parts without verdict."""
    page = walk.page
    page.get_by_role("link", name="Review").click()
    page.get_by_text("Undecided (0)").wait_for()
    page.get_by_text("Sample of OK").click()
    page.get_by_text("the verdict is not shown").wait_for()
    assert page.locator("[class*=st-key-card-review] .vi-verdict").count() == 0
    page.get_by_text("Rejects (").click()
    page.locator("[class*=st-key-card-review]").get_by_text("heat map").wait_for()


def label(walk: Walk, defect: InspectionRow, false_reject: InspectionRow) -> None:
    """By keyboard: the newer one first, for that is the order in which they wait."""
    answer(walk, defect, "d")
    answer(walk, false_reject, "g")
    assert walk.said() == [(defect.id, "defect"), (false_reject.id, "good")]


def add_reference(walk: Walk) -> None:
    """One click; an impatient second one changes nothing."""
    walk.page.get_by_role("button", name="Add to the references").dblclick()
    walk.page.get_by_role("link", name=f"See {NAME}, revision 3").wait_for()
    assert len(walk.recipe(3).references) == GOOD + 1
    assert walk.active == walk.recipe_topic == (NAME, 2)


def preview(walk: Walk, false_reject: InspectionRow) -> None:
    """What would change is told before it does, and it is what the database says."""
    page = walk.page
    page.get_by_role("link", name=f"See {NAME}, revision 3").click()
    page.get_by_role("heading", name=f"{NAME}, revision 3 ✓ ready").wait_for()
    page.get_by_text("None of the 1 confirmed defect would pass.").wait_for()
    report = walk.recipe(3).report
    assert (report["confirmed_defects"], report["escapes"]) == (1, [])
    flips = {flip["inspection"]: flip["now"] for flip in report["flips"]}
    assert flips[false_reject.id] == Verdict.OK
    page.get_by_text(f"Of the last {report['previewed']} parts").wait_for()
    page.get_by_text("Show the parts that would flip").click()
    page.locator(f".vi-strip a[href='history?part={false_reject.id}']").wait_for()


def roll_back(walk: Walk) -> None:
    walk.page.get_by_role("button", name=f"Roll back to {NAME}, revision 2").click()
    walk.wait_active(NAME, 2)


def seen_by(walk: Walk, numbers: range) -> dict[int, InspectionRow]:
    """The verdicts on these triggers; each has exactly one."""
    rows = [row for row in walk.line.rows() if row.trg in numbers]
    assert [row.trg for row in rows] == list(numbers), walk.line.log[-3000:]
    return {row.trg: row for row in rows}


def test_from_a_bad_picture_to_a_rollback_while_the_line_runs(line: Line, chromium: Any, tmp_path: Path) -> None:
    files = pictures_to_teach(tmp_path / "upload")
    station = Witness(line.broker.port)
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(SLOW_MS)
    with served(line.config, line.config_path, tmp_path / "dashboard.log") as address:
        walk = Walk(page, address, line, station, tmp_path)
        with line.plc("flange", timeout_s=SLOW_S, first_trigger=FLANGES_FROM) as plc:
            started(line, plc)
            with parts_come_by(plc, "flange"):
                upload(walk, files)
                drop_and_build(walk)
                finding(walk)
                teach_without_it(walk, files[:GOOD])
                activate(walk, 2)
            plc.wait_decided(SLOW_S)
            seen_by(walk, range(FLANGES_FROM, FLANGES_FROM + plc.counts.triggers))
        improve(walk)
    page.close()
    station.close()


def improve(walk: Walk) -> None:
    """Parts of the new product come by; a false reject becomes a reference, is tried, and is taken back."""
    line, rcp = walk.line, walk.recipe(2).product.rcp
    line.taught[KIND] = rcp
    numbers = range(GEARS_FROM, GEARS_FROM + GEARS)
    with line.plc(KIND, timeout_s=SLOW_S, first_trigger=GEARS_FROM) as plc:
        plc.wait_ready(SLOW_S)
        inspected(plc, numbers)
        before = seen_by(walk, numbers)
        assert {row.recipe_id for row in before.values()} == {walk.recipe(2).id}
        rejected = [row for row in before.values() if row.verdict == Verdict.NG]
        false_reject = max((row for row in rejected if not is_bad(row)), key=lambda row: row.score or 0.0)
        defect = max((row for row in rejected if is_bad(row)), key=lambda row: row.score or 0.0)
        review(walk)
        label(walk, defect, false_reject)
        add_reference(walk)
        preview(walk, false_reject)
    with line.plc(KIND, timeout_s=SLOW_S, first_trigger=MORE_FROM) as plc:
        plc.wait_ready(SLOW_S)
        swapped(walk, plc, lambda: activate(walk, 3), 3)
    with line.plc(KIND, timeout_s=SLOW_S, first_trigger=AGAIN_FROM) as plc:
        plc.wait_ready(SLOW_S)
        swapped(walk, plc, lambda: roll_back(walk), 2)


def is_bad(row: InspectionRow) -> bool:
    """What really lay on the belt."""
    return simulation.truth(SEED, row.trg, DEFECT_RATE) is not None


def swapped(walk: Walk, plc: VirtualPlc, change: Callable[[], None], rev: int) -> None:
    """Parts come by before, during and after a change of the revision: none is lost, and the last carry the new one."""
    first = plc.settings.first_trigger
    with parts_come_by(plc, KIND):
        change()
        at_change = plc.counts.triggers
        wait_until(lambda: plc.counts.triggers >= at_change + AFTER, SLOW_S)
    plc.wait_decided(SLOW_S)
    rows = seen_by(walk, range(first, first + plc.counts.triggers))
    assert {row.err for row in rows.values()} <= {ErrorCode.NONE, ErrorCode.ABORTED}
    after = [row for trg, row in rows.items() if trg >= first + at_change + 1]
    assert {row.recipe_id for row in after} == {walk.recipe(rev).id}
    assert {row.verdict for row in after} <= {Verdict.OK, Verdict.NG}
    assert plc.counts.missing == 0
