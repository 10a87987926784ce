"""A product is taught and activated by hand, in a real browser, while the line runs: no part is lost or doubled."""

from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import select

from inspector import simulation
from inspector.contract.broker import free_port
from inspector.images import encode_png
from inspector.store import products
from inspector.store.schema import Audit, Command, Recipe
from tests.browser import served
from tests.end_to_end.plant import Line, parts_come_by, started

SLOW_MS = 90_000
AFTER = 8


def reference_files(folder: Path, kind: str) -> list[str]:
    folder.mkdir()
    for number, image in enumerate(simulation.draw_references(kind, 5)):
        (folder / f"{kind}-{number}.png").write_bytes(encode_png(image))
    (folder / "notes.png").write_text("not a picture")
    return [str(path) for path in sorted(folder.iterdir())]


def teach(page: Any, address: str, name: str, files: list[str]) -> None:
    """What an operator does: name, pictures, drop the broken one, build (with an impatient double click)."""
    page.goto(f"{address}/products")
    page.get_by_role("button", name="Teach a product").click()
    page.get_by_label("Name of the product").fill(name)
    page.get_by_label("Name of the product").press("Enter")
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_text("Drop what cannot be used first: notes.png.").wait_for()
    page.get_by_test_id("stCheckbox").filter(has_text="notes.png").click()
    page.get_by_role("button", name="Build from 5 pictures").dblclick()
    page.get_by_role("heading", name=f"{name}, revision 1 ✓ ready").wait_for()


def test_a_product_is_taught_and_activated_in_the_browser_while_parts_come_by(
    line: Line, chromium: Any, tmp_path: Path
) -> None:
    line.values["dashboard"] = {"port": free_port()}
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(SLOW_MS)
    with (
        served(line.config, line.config_path, tmp_path / "dashboard.log") as address,
        line.plc("flange", timeout_s=20.0) as plc,
    ):
        started(line, plc)
        with parts_come_by(plc, "flange"):
            teach(page, address, "gear 24", reference_files(tmp_path / "upload", "gear"))
            page.get_by_role("button", name="Activate").dblclick()
            page.get_by_role("heading", name="gear 24, revision 1 ● active").wait_for()
        plc.wait_decided()
        before = plc.counts.triggers
        gear = line_recipe(line, "gear 24")
        plc.want_recipe(gear.product.rcp)
        plc.wait_ready(30)
        for number in range(AFTER):
            plc.trigger(f"gear:{number:05d}")
            plc.wait_decided()
        page.get_by_role("link", name="Live").click()
        page.locator(".vi-banner", has_text="gear 24, revision 1").wait_for()
        page.locator(".vi-newest", has_text=f"gear:{AFTER - 1:05d}").wait_for()
        counts, decisions = plc.counts, plc.decisions
    page.close()

    rows = line.rows()
    triggers = Counter(row.trg for row in rows)
    assert triggers == Counter(range(1, before + AFTER + 1)), line.log[-3000:]
    assert counts.triggers == counts.accepted + counts.rejected == before + AFTER
    assert counts.missing == 0
    after = [row for row in rows if row.trg > before]
    assert {row.recipe_id for row in after} == {gear.id}
    assert {decisions[row.trg].result.rcp for row in after} == {gear.product.rcp}
    assert {row.verdict for row in rows if row.trg <= 5} <= {1, 2, 3}
    assert asked_for(line) == ["select_recipe"]
    assert taught(line) == ["gear 24"]


def line_recipe(line: Line, name: str) -> Recipe:
    with line.store() as store, store.read() as session:
        recipe = products.find_product(session, name).recipes[0]
        assert recipe.product.name == name
        return recipe


def asked_for(line: Line) -> list[str]:
    with line.store() as store, store.read() as session:
        return list(session.scalars(select(Command.name).where(Command.source == "dashboard")))


def taught(line: Line) -> list[str]:
    """Products that were taught from the pages; a double click must not teach twice."""
    with line.store() as store, store.read() as session:
        entries = session.scalars(select(Audit).where(Audit.action == "teach", Audit.who == "dashboard"))
        return [entry.detail["product"] for entry in entries]
