"""Findings about references on the Products page: keep, drop, and add a part in a position that none shows."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from inspector.store import products
from inspector.store.schema import Audit, InspectionRow, Recipe
from tests.dashboard import seed
from tests.dashboard.conftest import PageRunner, shown
from tests.dashboard.seed import Scene

NOW = datetime.now(UTC)
FOUND = {"kind": "outlier", "reason": "one place is unlike all others", "score": 3.2}


@pytest.fixture
def line(scene: Scene) -> Scene:
    """A product with an odd reference and a part that lies otherwise."""
    recipe = seed.teach(scene, "gear", "gear", now=NOW - timedelta(hours=1), pictures=4)
    seed.activate(scene, recipe, NOW - timedelta(minutes=50))
    seed.inspect(scene, recipe, "gear", range(1, 4), NOW, pictures=3)
    with scene.store.write() as session:
        stored = session.get_one(Recipe, recipe.id)
        stored.references[2].findings = [FOUND]
        stored.references[2].warning = str(FOUND["reason"])
        row = session.get_one(InspectionRow, 2)
        part = {"inspection": 2, "picture": "000002.jpg", "path": row.image_path, "kind": "position"}
        stored.report = {"positions": [part | {"reason": "fits turned by 180°", "score": 0.5}]}
    return scene


def newest(scene: Scene) -> Recipe:
    with scene.store.read() as session:
        return products.find_product(session, "gear").recipes[-1]


def names(scene: Scene) -> list[tuple[int, list[str]]]:
    with scene.store.read() as session:
        recipes = session.scalars(select(Recipe).order_by(Recipe.rev))
        return [(recipe.rev, [one.name for one in recipe.references]) for recipe in recipes]


def ids(scene: Scene) -> list[int]:
    with scene.store.read() as session:
        return [one.id for one in session.scalars(select(Recipe)).one().references]


def test_a_finding_can_be_accepted_and_is_then_shown_as_kept(line: Scene, run_page: PageRunner) -> None:
    page = run_page("products", line)
    assert "outlier (3.200): one place is unlike all others" in shown(page).replace("3.20)", "3.200)")
    reference = ids(line)[2]
    page.button(key=f"products:keep:{reference}").click().run()
    text = shown(page)
    assert "kept by" in text
    assert not [button for button in page.button if button.key == f"products:keep:{reference}"]
    assert len(names(line)) == 1
    with line.store.read() as session:
        assert [row.action for row in session.scalars(select(Audit).where(Audit.action == "keep_reference"))]


def test_a_drop_asks_for_a_revision_without_the_picture_and_changes_nothing_else(
    line: Scene, run_page: PageRunner
) -> None:
    page = run_page("products", line)
    page.button(key=f"products:drop:{ids(line)[2]}").click().run()
    assert names(line) == [
        (1, ["gear-00.png", "gear-01.png", "gear-02.png", "gear-03.png"]),
        (2, ["gear-00.png", "gear-01.png", "gear-03.png"]),
    ]
    assert newest(line).status == "queued"


def test_of_two_equal_pictures_only_the_one_that_was_meant_is_dropped(line: Scene, run_page: PageRunner) -> None:
    with line.store.write() as session:
        stored = session.scalars(select(Recipe)).one().references
        stored[2].sha256, stored[2].path = stored[0].sha256, stored[0].path
    page = run_page("products", line)
    page.button(key=f"products:drop:{ids(line)[2]}").click().run()
    assert names(line)[1] == (2, ["gear-00.png", "gear-01.png", "gear-03.png"])


def test_a_part_in_a_new_position_is_added_with_one_click(line: Scene, run_page: PageRunner) -> None:
    page = run_page("products", line)
    text = shown(page)
    assert "Positions that no reference shows" in text
    assert "fits turned by 180°" in text
    recipe = newest(line)
    page.button(key=f"products:position:{recipe.id}:2").click().run()
    assert names(line)[1] == (2, ["gear-00.png", "gear-01.png", "gear-02.png", "gear-03.png", "000002.jpg"])
