"""The review page: what waits, labels that stay, the blind sample, and what follows from a label."""

import sys
from datetime import UTC, datetime, timedelta
from textwrap import dedent

import numpy as np
import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from inspector.store import labels, products
from inspector.store.schema import InspectionRow, Label, Recipe
from inspector.types import Verdict
from tests import stored
from tests.dashboard import seed
from tests.dashboard.conftest import PageRunner, shown
from tests.dashboard.seed import Scene

NOW = datetime.now(UTC)


@pytest.fixture
def line(scene: Scene) -> Scene:
    """A line that has run for a while; all pictures are kept."""
    recipe = seed.teach(scene, "gear", "gear", now=NOW - timedelta(hours=1), pictures=3)
    seed.activate(scene, recipe, NOW - timedelta(minutes=50))
    seed.inspect(scene, recipe, "gear", range(1, 25), datetime.now(UTC), pictures=24)
    return scene


def said(scene: Scene) -> list[tuple[str, str, bool]]:
    with scene.store.read() as session:
        return [(one.label, one.kind, one.blind) for one in session.scalars(select(Label).order_by(Label.id))]


def waiting(scene: Scene, verdict: Verdict) -> list[int]:
    with scene.store.read() as session:
        query = select(InspectionRow.id).where(
            InspectionRow.verdict == int(verdict), InspectionRow.image_path.is_not(None)
        )
        return sorted(session.scalars(query), reverse=True)


def test_a_line_without_parts_has_nothing_to_review_and_says_why(scene: Scene, run_page: PageRunner) -> None:
    text = shown(run_page("review", scene))
    assert "Nothing to review" in text
    assert "images.save" in text


def test_rejects_wait_with_their_verdict_and_a_label_takes_one_away(line: Scene, run_page: PageRunner) -> None:
    rejects = waiting(line, Verdict.NG)
    assert rejects
    page = run_page("review", line)
    page.segmented_control(key="review:queue").set_value("Rejects").run()
    assert "NG" in shown(page)
    page.button(key=f"review:defect:{rejects[0]}").click().run()
    assert said(line) == [("defect", "", False)]
    assert not [button for button in page.button if button.key == f"review:defect:{rejects[0]}"]
    assert "Your last answer" in shown(page)


def test_the_sample_of_ok_parts_is_blind(line: Scene, run_page: PageRunner) -> None:
    page = run_page("review", line)
    page.segmented_control(key="review:queue").set_value("Sample of OK").run()
    text = shown(page)
    assert "the verdict is not shown" in text
    assert "✓ OK" not in text
    (good,) = [button for button in page.button if str(button.key).startswith("review:good:")]
    good.click().run()
    assert said(line) == [("good", "", True)]


def test_an_answer_can_be_changed_and_the_first_one_stays_on_record(line: Scene, run_page: PageRunner) -> None:
    page = run_page("review", line)
    page.segmented_control(key="review:queue").set_value("Rejects").run()
    number = waiting(line, Verdict.NG)[0]
    page.button(key=f"review:good:{number}").click().run()
    (change,) = [button for button in page.button if button.label == "Change it"]
    change.click().run()
    page.button(key=f"review:unusable:{number}").click().run()
    assert [one[0] for one in said(line)] == ["good", "unusable"]
    with line.store.read() as session:
        assert [one.label for one in labels.current(session, 1)] == ["unusable"]


def test_a_false_reject_becomes_a_reference_with_one_click(line: Scene, run_page: PageRunner) -> None:
    page = run_page("review", line)
    page.segmented_control(key="review:queue").set_value("Rejects").run()
    page.button(key=f"review:good:{waiting(line, Verdict.NG)[0]}").click().run()
    (add,) = [button for button in page.button if button.label == "Add to the references"]
    add.click().run()
    with line.store.read() as session:
        newest = session.scalars(select(Recipe).order_by(Recipe.rev.desc())).first()
        assert newest is not None
        assert (newest.rev, newest.status, len(newest.references)) == (2, "queued", 4)


def test_skipped_parts_come_back_when_they_are_asked_for(line: Scene, run_page: PageRunner) -> None:
    page = run_page("review", line)
    page.segmented_control(key="review:queue").set_value("Rejects").run()
    for number in waiting(line, Verdict.NG):
        page.button(key=f"review:skip:{number}").click().run()
    assert "Nothing is left but what you skipped" in shown(page)
    (show,) = [button for button in page.button if button.label == "Show the skipped parts"]
    show.click().run()
    assert "NG" in shown(page)


def test_a_recalibration_is_offered_from_nine_good_parts_on_and_refuses_what_they_cannot_promise(
    line: Scene, run_page: PageRunner
) -> None:
    assert "Label 9 more good parts" in shown(run_page("review", line))
    rng = np.random.default_rng(0)
    with line.store.write() as session:
        product = products.find_product(session, "gear")
        for number in range(12):
            picture = (f"{number}.png", rng.integers(0, 255, (32, 32, 3), np.uint8))
            stored.add_label(
                session,
                line.config.data_path,
                product,
                picture,
                labels.Said("good"),
                source="review",
                who="me",
                now=NOW,
            )
    page = run_page("review", line)
    assert "12 good, 0 defects" in shown(page)
    target = next(box for box in page.number_input if str(box.key).startswith("review:target"))
    target.set_value(1.0).run()
    assert "needs 99 confirmed good parts, but there are 12; with 12, 7.7 % can be wished" in shown(page)
    button = next(button for button in page.button if button.label == "Recalibrate")
    assert button.disabled
    target = next(box for box in page.number_input if str(box.key).startswith("review:target"))
    target.set_value(10.0).run()
    next(button for button in page.button if button.label == "Recalibrate").click().run()
    with line.store.read() as session:
        newest = session.scalars(select(Recipe).order_by(Recipe.rev.desc())).first()
        assert newest is not None
        assert newest.calibration == {"target": 0.1, "grey": 0.0, "rois": [], "align": None, "tiles": None}


def test_products_shows_what_a_revision_promises_and_refuses_one_that_lets_a_defect_pass(
    line: Scene, run_page: PageRunner
) -> None:
    with line.store.write() as session:
        recipe = session.scalars(select(Recipe)).one()
        recipe.calibration = {"rate": 0.05, "bound": 0.146}
        recipe.calibration_kind, recipe.calibration_n = "confirmed", 19
    second = seed.teach(line, "gear", "gear", now=NOW, pictures=3)
    with line.store.write() as session:
        products.get_recipe(session, second.id).report = {
            "previewed": 20,
            "flips": [{"inspection": 1, "was": 2, "now": 1, "score": 0.3}],
            "escapes": [{"label": 1, "picture": "a.png", "kind": "scratch", "score": 0.1}],
        }
    page = run_page("products", line)
    text = shown(page)
    assert "1 confirmed defect would pass (a.png)" in text
    assert (
        "Of the last 20 parts whose pictures are kept, **1** would be decided otherwise: 1 would be accepted now"
        in text
    )
    assert page.button(key=f"button-activate-{second.id}").disabled
    reason = next(box for box in page.text_input if str(box.key).startswith("products:reason"))
    reason.set_value("label was wrong").run()
    next(button for button in page.button if button.label == "Override").click().run()
    assert not page.button(key=f"button-activate-{second.id}").disabled


def test_another_threshold_is_tried_on_the_last_parts_and_changes_nothing(line: Scene, run_page: PageRunner) -> None:
    page = run_page("review", line)
    (slider,) = [one for one in page.slider if str(one.key).startswith("what-if")]
    assert "**0** of" in shown(page)
    slider.set_value(slider.min).run()
    text = shown(page)
    accepted = len(waiting(line, Verdict.OK))
    assert f"**{accepted}** would not be accepted that were" in text
    with line.store.read() as session:
        assert session.scalars(select(Recipe.rev)).all() == [1]


def test_a_defect_is_taught_from_its_region_and_a_revision_is_asked_for(line: Scene, run_page: PageRunner) -> None:
    page = run_page("review", line)
    page.segmented_control(key="review:queue").set_value("Rejects").run()
    number = waiting(line, Verdict.NG)[0]
    assert page.selectbox(key=f"review:place:{number}").value == "region 1"
    page.button(key=f"review:defect:{number}").click().run()
    next(button for button in page.button if button.label == "Teach this defect").click().run()
    assert "look out for it" in shown(page)
    with line.store.read() as session:
        (newest,) = labels.current(session, 1)
        assert newest.lesson == "defect"
        assert newest.region is not None
        assert session.scalars(select(Recipe.status).order_by(Recipe.rev)).all() == ["ready", "queued"]


def test_a_mark_of_a_good_part_is_tolerated_in_its_region(line: Scene, run_page: PageRunner) -> None:
    page = run_page("review", line)
    page.segmented_control(key="review:queue").set_value("Rejects").run()
    page.button(key=f"review:good:{waiting(line, Verdict.NG)[0]}").click().run()
    next(button for button in page.button if button.label == "Tolerate this mark").click().run()
    with line.store.read() as session:
        (newest,) = labels.current(session, 1)
        assert (newest.label, newest.lesson) == ("good", "tolerated")


def test_a_false_reject_that_was_added_is_not_offered_again_but_shows_its_revision(
    line: Scene, run_page: PageRunner
) -> None:
    page = run_page("review", line)
    page.segmented_control(key="review:queue").set_value("Rejects").run()
    page.button(key=f"review:good:{waiting(line, Verdict.NG)[0]}").click().run()
    next(button for button in page.button if button.label == "Add to the references").click().run()
    assert not [button for button in page.button if button.label == "Add to the references"]
    assert "gear, revision 2 is being built with it" in page.get("progress")[0].text


def test_a_double_click_adds_a_false_reject_once(line: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second click comes with the arguments of the first, before the page could be drawn anew."""
    monkeypatch.setattr(sys, "argv", ["app.py", "--config", str(line.config_path)])
    script = f"""
        from dashboard.context import dashboard
        from dashboard.views import review
        for _ in range(2):
            review._add_reference(dashboard(), {waiting(line, Verdict.NG)[0]})
    """
    page = AppTest.from_string(dedent(script), default_timeout=20).run()
    assert not page.exception
    with line.store.read() as session:
        assert session.scalars(select(Recipe.rev).order_by(Recipe.rev)).all() == [1, 2]


def test_a_fast_key_that_reaches_the_buttons_of_two_parts_labels_the_one_that_is_shown_and_once(
    line: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, on_screen = waiting(line, Verdict.NG)[:2]
    monkeypatch.setattr(sys, "argv", ["app.py", "--config", str(line.config_path)])
    script = f"""
        import streamlit as st
        from dashboard.context import dashboard
        from dashboard.views import review
        from inspector.store import labels
        st.session_state[review.SHOWN] = {on_screen}
        for number in ({before}, {on_screen}, {on_screen}):
            review._answer(dashboard(), number, labels.Said(labels.DEFECT))
    """
    page = AppTest.from_string(dedent(script), default_timeout=20).run()
    assert not page.exception
    with line.store.read() as session:
        assert session.scalars(select(Label.inspection_id)).all() == [on_screen]


def test_two_false_rejects_in_a_row_both_become_references(line: Scene, run_page: PageRunner) -> None:
    """The second one comes while the revision with the first is still to be built."""
    page = run_page("review", line)
    page.segmented_control(key="review:queue").set_value("Rejects").run()
    for number in waiting(line, Verdict.NG)[:2]:
        page.button(key=f"review:good:{number}").click().run()
        next(button for button in page.button if button.label == "Add to the references").click().run()
    with line.store.read() as session:
        newest = session.scalars(select(Recipe).order_by(Recipe.rev.desc())).first()
        assert newest is not None
        assert (newest.rev, len(newest.references)) == (3, 5)


def test_products_tells_what_would_flip_with_pictures_and_that_no_confirmed_defect_would_pass(
    line: Scene, run_page: PageRunner
) -> None:
    second = seed.teach(line, "gear", "gear", now=NOW, pictures=3)
    number = waiting(line, Verdict.NG)[0]
    with line.store.write() as session:
        products.get_recipe(session, second.id).report = {
            "previewed": 24,
            "flips": [{"inspection": number, "was": 2, "now": 1, "score": 0.3}],
            "confirmed_defects": 12,
            "escapes": [],
        }
    page = run_page("products", line)
    text = shown(page)
    assert "None of the 12 confirmed defects would pass." in "\n".join(one.value for one in page.success)
    assert "Of the last 24 parts whose pictures are kept, **1** would be decided otherwise" in text
    assert f"history?part={number}" in text
