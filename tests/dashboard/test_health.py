"""The page Health: alarms, drift, challenges with known parts, parts in doubt; and Live while the station is held."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from dashboard import charts, verification
from inspector.contract.codes import AckCode, ErrorCode, StationMode, StationState
from inspector.images import encode_png
from inspector.store import challenges, commands, labels, products, queries
from inspector.store.schema import ChallengeMember, Command, Recipe
from tests import stored
from tests.dashboard import seed
from tests.dashboard.conftest import PageRunner, shown
from tests.dashboard.seed import Scene

NOW = datetime.now(UTC)
SINCE = int(NOW.timestamp()) - 60


def alarm(err: int, text: str, *, conf: int = 0, src: str = "") -> dict[str, object]:
    return {"err": err, "src": src, "txt": text, "since": SINCE, "conf": conf}


@pytest.fixture
def line(scene: Scene) -> Scene:
    """A line with an active product that has known parts."""
    recipe = seed.teach(scene, "gear", "gear", now=NOW - timedelta(hours=9), pictures=3)
    seed.activate(scene, recipe, NOW - timedelta(hours=8))
    seed.known_parts(scene, recipe, "gear", NOW - timedelta(hours=7))
    return scene


def recipe_of(scene: Scene) -> Recipe:
    with scene.store.read() as session:
        return session.scalars(select(Recipe)).one()


def asked(scene: Scene) -> list[tuple[str, dict[str, object]]]:
    with scene.store.read() as session:
        return [(row.name, row.payload) for row in session.scalars(select(Command).order_by(Command.id))]


def parts(scene: Scene) -> list[tuple[str, str, str, str, bool]]:
    with scene.store.read() as session:
        query = select(ChallengeMember).where(ChallengeMember.retired_at.is_(None)).order_by(ChallengeMember.id)
        found = session.scalars(query)
        return [(one.name, one.expected, one.kind, one.part, one.path is not None) for one in found]


def press(page: AppTest, label: str) -> AppTest:
    return next(button for button in page.button if button.label == label).click().run()


def test_a_station_on_its_first_day_says_what_to_do(scene: Scene, run_page: PageRunner) -> None:
    text = shown(run_page("health", scene))
    assert "The worker does not run" in text
    assert "Nothing was compared in this time" in text
    assert "The active product has no known parts yet" in text
    assert "Teach a product first" in text


def test_alarms_are_told_in_words_and_confirmed_with_one_click(line: Scene, run_page: PageRunner) -> None:
    seed.alive(
        line,
        alarms=[
            alarm(204, "the light has changed: mean grey level 97, was 120", src="drift"),
            alarm(101, "camera <b>top</b> is gone", conf=1),
        ],
    )
    page = run_page("health", line)
    text = shown(page)
    assert "The light has drifted (204)." in text
    assert "The light has changed: mean grey level 97, was 120." in text
    assert "Camera &lt;b&gt;top&lt;/b&gt; is gone." in text
    assert text.count("not confirmed") == 1
    press(page, "Confirm")
    assert asked(line) == [("confirm", {"alarm": 204})]


def test_a_station_without_alarms_says_so(line: Scene, run_page: PageRunner) -> None:
    seed.alive(line)
    text = shown(run_page("health", line))
    assert "✓ None." in text
    assert "Held" not in text


def test_the_run_in_is_counted_and_then_drift_is_drawn_with_its_causes(line: Scene, run_page: PageRunner) -> None:
    recipe = recipe_of(line)
    seed.inspect(line, recipe, "gear", range(1, 13), NOW - timedelta(minutes=5), pictures=0)
    with line.store.read() as session:
        accepted = sum(row.verdict == 1 for row in queries.latest_inspections(session, line.station_id, 99))
    text = shown(run_page("health", line))
    assert f"The first 50 accepted parts of a revision show how it usually looks; {accepted} so far" in text
    seed.drifting(line, recipe, NOW)
    page = run_page("health", line)
    assert "The first 50" not in shown(page)
    assert "The light has changed: mean grey level 97, was 120." in shown(page)
    assert len(page.get("arrow_vega_lite_chart") or page.get("vega_lite_chart")) == 4


def test_the_band_of_the_chart_is_that_of_the_test_and_a_cause_is_marked_once(line: Scene) -> None:
    seed.drifting(line, recipe_of(line), NOW)
    points = verification.points(line.store, line.station_id, NOW - timedelta(hours=24))
    chart = charts.p_values(points, (NOW - timedelta(hours=24), NOW), 100).to_dict()
    (rows,) = chart["datasets"].values()
    assert sum(row["begins"] for row in rows) == 1
    # 100 parts against a run-in of 50: five sigmas of sqrt(151 / (12 * 50 * 100))
    assert rows[-1]["low"] == pytest.approx(0.5 - 5 * (151 / 60_000) ** 0.5)
    assert rows[-1]["p"] < rows[-1]["low"] < 0.5 < rows[-1]["high"]


def test_a_challenge_begins_with_parts_or_pictures_and_is_ended(line: Scene, run_page: PageRunner) -> None:
    seed.alive(line)
    page = run_page("health", line)
    assert "Set 1: 6 known parts, 5 with a picture." in shown(page)
    press(page, "Begin with kept pictures")
    press(page, "Begin with parts on the line")
    assert asked(line) == [("challenge_begin", {"set": 1, "pic": 1}), ("challenge_begin", {"set": 1, "pic": 0})]
    with line.store.write() as session:
        challenges.begin(session, line.station_id, 1, 1, challenges.PARTS, "dashboard", NOW)
        for row in commands.pending(session, line.station_id):
            commands.finish(session, row.id, int(AckCode.DONE), NOW)
    seed.alive(line, challenge=True, mode=int(StationMode.CHALLENGE))
    page = run_page("health", line)
    assert "Challenge 1 runs with parts on the line: 0 verdicts so far." in shown(page)
    assert "Show these parts now" in shown(page)
    press(page, "End the challenge")
    assert asked(line)[-1] == ("challenge_end", {})


def test_without_a_worker_nothing_can_be_begun(line: Scene, run_page: PageRunner) -> None:
    page = run_page("health", line)
    assert all(button.disabled for button in page.button if button.label.startswith("Begin"))


def test_a_challenge_that_a_killed_worker_left_is_not_shown_as_running(line: Scene, run_page: PageRunner) -> None:
    with line.store.write() as session:
        challenges.begin(session, line.station_id, 1, 1, challenges.PICTURES, "dashboard", NOW)
    seed.alive(line)
    assert "End the challenge" not in [button.label for button in run_page("health", line).button]


def test_a_failed_challenge_shows_each_part_the_parts_in_doubt_and_how_to_go_on(
    line: Scene, run_page: PageRunner
) -> None:
    recipe = recipe_of(line)
    seed.challenge(line, recipe, "", NOW - timedelta(hours=2), mode=challenges.PARTS)
    seed.inspect(line, recipe, "gear", range(1, 21), NOW - timedelta(minutes=30), pictures=0)
    failed = seed.challenge(line, recipe, "a defect that was accepted", NOW - timedelta(minutes=10))
    seed.alive(line, StationState.HALTED, err=702, held=702, alarms=[alarm(702, "challenge 2 failed: stain-1")])
    page = run_page("health", line)
    text = shown(page)
    assert "✕ Held" in text
    assert "Challenge 2 failed: stain-1: a defect that was accepted." in text
    assert text.count("✕ a defect that was accepted") == 1
    doubted, total = verification.in_doubt(line.store, line.station_id, failed, 5)
    assert len(doubted) == 5
    assert f"**{total} accepted parts are in doubt**" in text
    assert page.button(key=f"health:override:{failed}").disabled
    page.text_input(key=f"health:reason:{failed}").set_value("the set was wrong").run()
    page.button(key=f"health:override:{failed}").click().run()
    with line.store.read() as session:
        assert challenges.standing(session, line.station_id) is None
        assert challenges.get_run(session, failed).override_reason == "the set was wrong"
    assert "Overridden by dashboard: the set was wrong" in shown(page)


def test_an_override_is_offered_on_a_failure_that_holds_the_station_and_on_nothing_else(
    line: Scene, run_page: PageRunner
) -> None:
    recipe = recipe_of(line)
    seed.challenge(line, recipe, "not seen", NOW - timedelta(hours=2))
    seed.challenge(line, recipe, "", NOW - timedelta(hours=1))
    page = run_page("health", line)
    assert not [button for button in page.button if str(button.key).startswith("health:override")]
    assert "Held" not in shown(page)


def test_an_overdue_challenge_is_told_with_the_parts_in_doubt(line: Scene, run_page: PageRunner) -> None:
    recipe = recipe_of(line)
    seed.inspect(line, recipe, "gear", range(1, 5), NOW - timedelta(minutes=30), pictures=0)
    line.config_path.write_text(line.config_path.read_text() + "challenge: {every_h: 6}\n")
    text = shown(run_page("health", line))
    assert "overdue for 2 h" in text
    assert "parts were accepted since the last passed challenge with parts" in text
    seed.challenge(line, recipe, "", NOW - timedelta(hours=1), mode=challenges.PARTS)
    assert "in 5 h" in shown(run_page("health", line))


def test_known_parts_come_from_files_labels_and_the_shelf_and_are_taken_out(line: Scene, run_page: PageRunner) -> None:
    image = seed.simulation.draw_references("gear", 1, seed=8)[0]
    with line.store.write() as session:
        product = products.find_product(session, "gear")
        picture = (f"{'long' * 30}.png", image)
        said = labels.Said("defect", "crack")
        one = stored.add_label(
            session, line.config.data_path, product, picture, said, source="review", who="me", now=NOW
        )
    page = run_page("health", line)
    page.file_uploader(key="known:files:0").set_value(("new.png", encode_png(image), "image/png")).run()
    press(page, "Add 1 known part")
    assert parts(line)[-1] == ("new", "good", "", "", True)
    page.button(key=f"known:label:{one.id}").click().run()
    name, *rest = parts(line)[-1]
    assert rest == ["defect", "crack", "", True]
    assert len(name) == 64
    assert name.endswith(f"#{one.id}")
    assert not [button for button in page.button if button.key == f"known:label:{one.id}"]
    page.text_input(key="known:name:2").set_value("master 7").run()
    page.text_input(key="known:part:2").set_value("M-7").run()
    press(page, "Add this part")
    assert parts(line)[-1] == ("master 7", "good", "", "M-7", False)
    before = len(parts(line))
    page.multiselect(key="known:remove").set_value([1, 2]).run()
    press(page, "Take out")
    assert len(parts(line)) == before - 2
    assert page.multiselect(key="known:remove").value == []


def test_a_file_that_is_no_picture_is_refused_and_a_taken_name_is_told(line: Scene, run_page: PageRunner) -> None:
    page = run_page("health", line)
    page.file_uploader(key="known:files:0").set_value(("x.png", b"not a picture", "image/png")).run()
    assert "x.png: " in shown(page)
    assert next(button for button in page.button if button.label == "Add 0 known parts").disabled
    page.text_input(key="known:name:0").set_value("master").run()
    press(page, "Add this part")
    assert "already in challenge set 1 of gear" in shown(page)


def test_live_says_in_red_that_a_station_is_held_and_leads_to_health(line: Scene, run_page: PageRunner) -> None:
    seed.alive(line, StationState.HALTED, err=702, held=702)
    page = run_page("live", line)
    text = shown(page)
    assert "✕ Held" in text
    assert "The check with challenge parts failed (702)." in text
    assert '<a href="health" target="_self">' in text
    assert page.button(key="button-station-start").disabled


@pytest.mark.parametrize(
    ("state", "changes", "words"),
    [
        (StationState.CONTINUOUS_EXECUTION, {"mode": int(StationMode.CHALLENGE)}, "● Running"),
        (StationState.ERROR, {"err": int(ErrorCode.CAMERA_LOST)}, "camera lost"),
    ],
)
def test_live_tells_first_what_is_more_urgent_than_that_the_station_is_held(
    line: Scene, run_page: PageRunner, state: StationState, changes: dict[str, int], words: str
) -> None:
    seed.alive(line, state, held=702, **changes)
    text = shown(run_page("live", line))
    assert words in text
    assert "✕ Held" not in text


def test_live_names_an_alarm_that_does_not_hold_the_station(line: Scene, run_page: PageRunner) -> None:
    seed.alive(line, err=205)
    text = shown(run_page("live", line))
    assert "The scores of accepted parts have drifted (205)." in text
    assert "Held" not in text
