"""The pages without a browser: empty states, signs of life, filters, and one command for two clicks."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from inspector import simulation
from inspector.contract.codes import AckCode, StationState
from inspector.images import encode_png
from inspector.store import commands, stations
from inspector.store.products import wish_of
from inspector.store.schema import Command, InspectionRow, Recipe
from inspector.types import Align, Tiles, Verdict
from tests.dashboard import seed
from tests.dashboard.conftest import PageRunner, shown
from tests.dashboard.seed import Scene

NOW = datetime.now(UTC)


def rows(scene: Scene, table: type) -> list:
    with scene.store.read() as session:
        return list(session.scalars(select(table)))


def ready_product(scene: Scene, *, parts: int = 0) -> Recipe:
    recipe = seed.teach(scene, "gear", "gear", now=NOW - timedelta(hours=1), pictures=3)
    seed.activate(scene, recipe, NOW - timedelta(minutes=50))
    if parts:
        seed.inspect(scene, recipe, "gear", range(1, parts + 1), datetime.now(UTC), pictures=2)
    return recipe


def test_live_says_what_to_do_before_any_worker_has_run(scene: Scene, run_page: PageRunner) -> None:
    text = shown(run_page("live", scene))

    assert "Worker not running" in text
    assert "inspector run" in text
    assert "No part yet" in text


def test_live_of_an_unknown_station_says_what_to_do(scene: Scene, run_page: PageRunner) -> None:
    scene.config_path.write_text(scene.config_path.read_text().replace("line1", "line9"))

    text = shown(run_page("live", scene))

    assert "No worker has been here yet" in text
    assert "line9" in text


def test_live_without_a_product_says_so_in_big_words(scene: Scene, run_page: PageRunner) -> None:
    seed.alive(scene, StationState.INITIALIZED)

    text = shown(run_page("live", scene))

    assert "? No product" in text
    assert "Teach or activate one" in text


def test_live_shows_state_product_threshold_counters_and_last_parts(scene: Scene, run_page: PageRunner) -> None:
    ready_product(scene, parts=40)
    seed.alive(scene)

    page = run_page("live", scene)
    text = shown(page)

    assert "● Running" in text
    assert "gear, revision 1" in text
    assert "threshold 0.4220 (provisional, n = 3)" in text
    assert "gear:000040" in text
    assert text.count("data:image/jpeg;base64,") == 4  # newest with heat map, and two kept pictures in the strip
    with scene.store.read() as session:
        verdicts = [Verdict(value) for value in session.scalars(select(InspectionRow.verdict))]
    for verdict in Verdict:
        assert f'<div class="n">{verdicts.count(verdict)}</div>' in text


def test_live_hides_the_heat_map_when_it_is_switched_off(scene: Scene, run_page: PageRunner) -> None:
    ready_product(scene, parts=3)
    seed.alive(scene)
    page = run_page("live", scene)

    assert "heat map</figcaption>" in shown(page)
    page.toggle(key="live:heat_map").set_value(False).run()
    assert "heat map</figcaption>" not in shown(page)


def test_a_worker_that_is_silent_for_six_seconds_is_shown_as_not_running(scene: Scene, run_page: PageRunner) -> None:
    ready_product(scene)
    with scene.store.write() as session:
        stations.set_status(session, scene.station_id, {"st": 7}, datetime.now(UTC) - timedelta(seconds=6))

    page = run_page("live", scene)

    assert "Worker not running" in shown(page)
    assert "Running</div>" not in shown(page)
    assert page.button(key="button-station-stop").disabled


def test_a_sign_of_life_from_the_future_is_no_sign_of_life(scene: Scene, run_page: PageRunner) -> None:
    with scene.store.write() as session:
        stations.set_status(session, scene.station_id, {"st": 7}, datetime.now(UTC) + timedelta(hours=1))

    assert "Data from the future" in shown(run_page("live", scene))


def test_problems_of_camera_and_broker_are_told_in_words(scene: Scene, run_page: PageRunner) -> None:
    ready_product(scene)
    seed.alive(scene, err=101, broker_connected=False, broker_problem="connection refused")

    text = shown(run_page("live", scene))

    assert "Camera lost: check cable and power (101)." in text
    assert "connection refused" in text


def test_a_double_click_on_stop_is_one_command(scene: Scene, run_page: PageRunner) -> None:
    ready_product(scene)
    seed.alive(scene)
    page = run_page("live", scene)
    button = page.button(key="button-station-stop")

    button.click().run()
    button.click().run()

    assert [(row.name, row.source, row.status) for row in rows(scene, Command)] == [("stop", "dashboard", "pending")]
    assert page.button(key="button-station-stop").disabled


def test_after_the_answer_the_next_click_is_a_new_command(scene: Scene, run_page: PageRunner) -> None:
    ready_product(scene)
    seed.alive(scene)
    page = run_page("live", scene)
    page.button(key="button-station-stop").click().run()
    with scene.store.write() as session:
        commands.finish(session, rows(scene, Command)[0].id, int(AckCode.DONE), datetime.now(UTC))
    seed.alive(scene)
    page.run()

    assert page.toast[0].value == "Stop: done"
    page.button(key="button-station-stop").click().run()
    assert len({row.cid for row in rows(scene, Command)}) == 2


def test_a_stopped_station_offers_start(scene: Scene, run_page: PageRunner) -> None:
    ready_product(scene)
    seed.alive(scene, StationState.HALTED)
    page = run_page("live", scene)

    page.button(key="button-station-start").click().run()

    assert [row.name for row in rows(scene, Command)] == ["start"]


def test_a_halted_station_offers_reset(scene: Scene, run_page: PageRunner) -> None:
    ready_product(scene)
    seed.alive(scene, StationState.HALTED, halted=True)
    page = run_page("live", scene)

    page.button(key="button-station-reset").click().run()

    assert [row.name for row in rows(scene, Command)] == ["reset"]


def test_products_opens_the_form_when_there_is_none(scene: Scene, run_page: PageRunner) -> None:
    page = run_page("products", scene)

    assert "No product yet" in shown(page)
    assert "No worker is running" in shown(page)
    assert page.button(key="teach:build:0").disabled


def upload(number: int, image: np.ndarray) -> tuple[str, bytes, str]:
    return (f"part-{number}.png", encode_png(image), "image/png")


def test_odd_uploads_are_warned_about_and_broken_ones_hold_the_build_up(scene: Scene, run_page: PageRunner) -> None:
    images = simulation.draw_references("flange", 3)
    seed.alive(scene, StationState.INITIALIZED)
    page = run_page("products", scene)
    page.text_input(key="teach:name:0").set_value("flange 50").run()
    files = [upload(number, image) for number, image in enumerate([*images, images[0]])]
    page.file_uploader(key="teach:files:0").set_value([*files, ("text.png", b"text", "image/png")]).run()

    assert "the same picture as part-0.png" in shown(page)
    assert "not a picture" in shown(page)
    assert "Drop what cannot be used first: text.png." in shown(page)
    assert page.button(key="teach:build:0").disabled

    next(box for box in page.checkbox if box.label == "text.png").uncheck().run()
    build = page.button(key="teach:build:0")
    assert build.label == "Build from 4 pictures"
    build.click().run()

    recipes = rows(scene, Recipe)
    assert [(recipe.status, recipe.station_id) for recipe in recipes] == [("queued", scene.station_id)]
    assert "**flange 50, revision 1** · waits for the worker · 0 %" in page.progress[0].text


def test_a_form_that_is_sent_twice_by_a_double_click_asks_for_one_recipe(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second click comes with the arguments of the first, before the page could be drawn anew."""
    monkeypatch.setattr(sys, "argv", ["app.py", "--config", str(scene.config_path)])
    script = """
        from dashboard import teach, uploads
        from dashboard.context import dashboard
        from inspector import simulation
        from inspector.images import encode_png
        kept = [uploads.read_upload("a.png", encode_png(simulation.draw_references("gear", 1)[0]))]
        for _ in range(2):
            teach.request_build(dashboard(), "gear", kept, 0)
        teach.request_build(dashboard(), "gear", kept, 1)
    """
    AppTest.from_string(dedent(script), default_timeout=20).run()

    assert [recipe.rev for recipe in rows(scene, Recipe)] == [1, 2]


def test_a_form_asks_for_alignment_and_tiles_by_the_limits_of_the_revision_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["app.py", "--config", str(scene.config_path)])
    script = """
        from datetime import UTC, datetime
        from dashboard import teach, uploads
        from dashboard.context import dashboard
        from inspector import simulation
        from inspector.images import encode_png
        from inspector.store import products
        from inspector.types import Align
        from tests import stored
        picture = simulation.draw_references("gear", 1)[0]
        kept = [uploads.read_upload("a.png", encode_png(picture))]
        plant = dashboard()
        teach.request_build(plant, "flange", kept, 0, teach.Choices(align=True))
        with plant.store.write() as session:
            wish = products.Wish(grey=2.0, align=Align(max_shift=0.05))
            stored.request_recipe(
                session, plant.data_path, "gear", [("a", picture)], station_id=None, who="t", now=datetime.now(UTC), wish=wish
            )
        teach.request_build(plant, "gear", kept, 1, teach.Choices(align=True, tiled=True))
        teach.request_build(plant, "gear", kept, 2)
    """
    AppTest.from_string(dedent(script), default_timeout=20).run()

    wishes = [wish_of(recipe) for recipe in rows(scene, Recipe)]
    assert [wish.align for wish in wishes] == [Align(), Align(max_shift=0.05), Align(max_shift=0.05), None]
    assert [wish.tiles for wish in wishes] == [None, None, Tiles(), None]
    assert [wish.grey for wish in wishes] == [0.0, 2.0, 2.0, 2.0]


def test_a_name_that_is_taken_asks_for_a_new_revision(scene: Scene, run_page: PageRunner) -> None:
    ready_product(scene)
    page = run_page("products", scene)
    page.button(key="products:teach").click().run()
    page.text_input(key="teach:name:0").set_value(" gear ").run()

    assert "choose it above to teach a new revision" in shown(page)


def test_activate_and_roll_back_are_commands_with_recipe_and_revision(scene: Scene, run_page: PageRunner) -> None:
    first = ready_product(scene)
    second = seed.teach(scene, "gear", "gear", now=NOW, pictures=3)
    seed.alive(scene)
    page = run_page("products", scene)

    assert "gear, revision 2" in shown(page)
    page.button(key=f"button-activate-{second.id}").click().run()
    assert [(row.name, row.payload) for row in rows(scene, Command)] == [("select_recipe", {"rcp": 1, "rev": 2})]

    seed.activate(scene, second, datetime.now(UTC))
    page = run_page("products", scene)
    page.button(key=f"button-rollback-{first.id}").click().run()
    assert rows(scene, Command)[-1].payload == {"rcp": 1, "rev": 1}


def test_references_show_scores_and_warnings_and_a_failed_build_its_reason(scene: Scene, run_page: PageRunner) -> None:
    recipe = ready_product(scene)
    text = shown(run_page("products", scene))

    assert "References (3), 1 with a warning" in text
    assert "above the threshold; unlike the others" in text
    with scene.store.write() as session:
        session.get(Recipe, recipe.id).status = "failed"
        session.get(Recipe, recipe.id).message = "out of memory"
    assert "The build failed: out of memory." in shown(run_page("products", scene))


def test_texts_from_people_are_never_html(scene: Scene, run_page: PageRunner) -> None:
    recipe = ready_product(scene, parts=2)
    with scene.store.write() as session:
        session.get(Recipe, recipe.id).references[0].name = "<script>alert(1)</script>.png"
        session.get(InspectionRow, 2).part = "<b>part</b>"
    seed.alive(scene)

    assert "<script>" not in shown(run_page("products", scene))
    assert "<b>part" not in shown(run_page("live", scene))
    assert "<b>part" not in shown(run_page("history", scene))


def test_history_says_what_to_do_when_there_is_nothing(scene: Scene, run_page: PageRunner) -> None:
    page = run_page("history", scene)
    assert "No part matches" in shown(page)

    next(button for button in page.button if button.label == "Show everything").click().run()
    assert "No part has been inspected yet" in shown(page)


def test_history_filters_by_verdict_part_error_and_product(scene: Scene, run_page: PageRunner) -> None:
    ready_product(scene, parts=100)
    page = run_page("history", scene)
    assert len(page.dataframe[0].value) == 50
    assert "Page 1 of 2 · 100 parts." in shown(page)

    page.pills(key="history:verdicts").set_value([Verdict.NG]).run()
    assert {value[0] for value in page.dataframe[0].value["Verdict"]} == {"✕ NG"}

    page.pills(key="history:verdicts").set_value([]).run()
    page.text_input(key="history:part").set_value("000097").run()
    assert list(page.dataframe[0].value["Part"]) == ["gear:000097"]
    assert "the verdict would have come too late (501)" in shown(page)

    page.text_input(key="history:part").set_value("").run()
    page.selectbox(key="history:error").set_value(501).run()
    assert len(page.dataframe[0].value) == 1


def test_history_turns_pages_and_goes_back_to_the_first_when_a_filter_changes(
    scene: Scene, run_page: PageRunner
) -> None:
    ready_product(scene, parts=120)
    page = run_page("history", scene)

    next(button for button in page.button if button.label == "Older").click().run()
    assert page.dataframe[0].value["Part"].iloc[0] == "gear:000070"
    page.selectbox(key="history:product").set_value("gear").run()
    assert page.dataframe[0].value["Part"].iloc[0] == "gear:000120"


def test_a_link_opens_its_part_with_all_data(scene: Scene, run_page: PageRunner) -> None:
    ready_product(scene, parts=30)
    page = run_page("history", scene)
    page.query_params["part"] = "7"
    page.run()

    text = shown(page)
    assert "gear:000007" in text
    assert "visual_map" in text
    assert "simulated" in text
    page.query_params["part"] = "999"
    page.run()
    assert "This part is not there" in shown(page)


def test_a_database_that_is_not_there_is_one_sentence(scene: Scene, run_page: PageRunner) -> None:
    values = scene.config_path.read_text().replace("/data", "/nowhere")
    scene.config_path.write_text(values)

    for name in ("live", "products", "history"):
        page = run_page(name, scene)
        assert "run `inspector db upgrade`" in shown(page)


def test_a_wrong_configuration_is_one_sentence(scene: Scene, run_page: PageRunner) -> None:
    scene.config_path.write_text("statoin: {}\n")

    assert "unknown key 'statoin'" in shown(run_page("live", scene))


def test_history_shows_what_a_region_was_compared_with(tmp_path: Path, run_page: PageRunner) -> None:
    busy = seed.busy(tmp_path / "busy", parts=60, pictures=30)
    page = run_page("history", busy)
    page.pills(key="history:verdicts").set_value([Verdict.NG]).run()

    text = shown(page)
    assert "what its worst place was compared with" in text
    assert "Level 1 of the encoder" in text
    assert "weight 0.75 · similarity 0.900" in text
    assert "visual" in text
    assert "(100 %)" in text
    busy.store.close()
