"""The study page: making, judging blind and without a way back, pausing, and a result that waits for everybody."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from dashboard import study_judging
from inspector import simulation
from inspector.images import encode_png
from inspector.store import studies
from inspector.store.labels import DEFECT, GOOD
from inspector.store.schema import Study, StudyAnswer
from tests.dashboard import seed
from tests.dashboard.conftest import PageRunner, shown
from tests.dashboard.judged import judged, line_of_gears, made
from tests.dashboard.seed import Scene


@pytest.fixture
def line(scene: Scene) -> Scene:
    return line_of_gears(scene)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clicks of a test are faster than any look at a picture."""
    monkeypatch.setattr(study_judging, "MIN_LOOK_S", 0.0)


def answers(scene: Scene) -> list[StudyAnswer]:
    with scene.store.read() as session:
        return list(session.scalars(select(StudyAnswer).order_by(StudyAnswer.id)))


def fill_in(page: AppTest, title: str = "shift A", operators: str = "Anna\nBen\n") -> AppTest:
    page.text_input(key="study:title:0").set_value(title)
    return page.text_area(key="study:operators:0").set_value(operators).run()


def answer_button(page: AppTest, said: str) -> object:
    (found,) = [button for button in page.button if str(button.key).startswith(f"study:{said}:")]
    return found


def test_a_plant_without_products_says_what_to_do(scene: Scene, run_page: PageRunner) -> None:
    text = shown(run_page("study", scene))
    assert "Several people judge the same parts" in text
    assert "20 parts or more" in text
    assert "No product yet" in text


def test_a_product_without_kept_pictures_says_what_to_do(scene: Scene, run_page: PageRunner) -> None:
    seed.teach(scene, "gear", "gear", now=datetime.now(UTC), pictures=3)
    page = run_page("study", scene)
    assert "No picture to suggest" in shown(page)
    assert page.button(key="study:make:0").disabled


def test_a_study_is_made_of_the_suggested_parts_with_the_truth_that_the_engineer_gives(
    line: Scene, run_page: PageRunner
) -> None:
    page = run_page("study", line)
    assert "A study needs 1 to 8 operators, but 0 are named." in shown(page)
    assert page.button(key="study:make:0").disabled
    fill_in(page)
    boxes = [box for box in page.selectbox if str(box.key).startswith("study:truth:")]
    assert len(boxes) == 24
    for box, truth in zip(boxes, (GOOD, DEFECT, "leave out"), strict=False):
        box.set_value(truth)
    page.run()
    assert "1 good, 1 defects, 21 of unknown truth; 46 answers each." in shown(page)
    page.button(key="study:make:0").click().run()

    with line.store.read() as session:
        study = studies.get_study(session, 1)
    assert (study.title, study.operators, study.repeats, len(study.parts)) == ("shift A", ["Anna", "Ben"], 2, 23)
    truths = {f"Truth of {part.name}": (part.truth, part.truth_source) for part in study.parts}
    assert truths[boxes[0].label] == (GOOD, "engineer")
    assert truths[boxes[1].label] == (DEFECT, "engineer")
    assert boxes[2].label not in truths
    assert set(truths.values()) == {(GOOD, "engineer"), (DEFECT, "engineer"), ("", "")}
    assert all(part.verdict is not None for part in study.parts)
    assert "Who judges now?" in shown(page)


def test_the_button_that_is_clicked_twice_makes_one_study(line: Scene, run_page: PageRunner) -> None:
    page = fill_in(run_page("study", line))
    page.session_state["study:made"] = {0}  # as after the first click of a double click
    page.button(key="study:make:0").click().run()
    with line.store.read() as session:
        assert session.scalars(select(Study)).all() == []


def test_mistakes_are_told_before_anything_is_stored(line: Scene, run_page: PageRunner) -> None:
    page = fill_in(run_page("study", line), operators="Anna\nanna\n")
    assert "one stands twice" in shown(page)
    assert page.button(key="study:make:0").disabled
    text = shown(fill_in(page, operators="Anna"))
    assert "With one operator nothing is said of agreement between people." in text
    assert "misses or false alarms cannot be told" in text


def test_uploaded_pictures_become_parts_and_what_is_no_picture_does_not(line: Scene, run_page: PageRunner) -> None:
    page = fill_in(run_page("study", line))
    picture = encode_png(simulation.draw_references("gear", 1, seed=44)[0])
    files = [("mine.png", picture, "image/png"), ("text.png", b"text", "image/png")]
    page.file_uploader(key="study:files:0").set_value(files).run()
    assert "not a picture" in shown(page)
    mine = next(box for box in page.selectbox if box.label == "Truth of mine.png")
    mine.set_value(DEFECT).run()
    page.button(key="study:make:0").click().run()
    with line.store.read() as session:
        last = studies.get_study(session, 1).parts[-1]
    assert (last.name, last.truth, last.inspection_id, last.verdict) == ("mine.png", DEFECT, None, None)


def test_a_picture_that_went_meanwhile_is_named_and_no_study_is_made(line: Scene, run_page: PageRunner) -> None:
    page = fill_in(run_page("study", line))
    for picture in (line.config.data_path / "images").glob("*.jpg"):
        picture.unlink()
    page.button(key="study:make:0").click().run()
    assert "has been tidied away; leave it out" in shown(page)
    with line.store.read() as session:
        assert session.scalars(select(Study)).all() == []


@pytest.mark.usefixtures("at_once")
def test_judging_is_blind_and_each_answer_is_stored_with_its_time(line: Scene, run_page: PageRunner) -> None:
    number = made(line)
    page = run_page("study", line)
    page.button(key=f"study:begin:{number}:0").click().run()
    text = shown(page)
    for hidden in ("gear:", "OK", "NG", "UNDECIDED", "score", "truth", "threshold", "Result"):
        assert hidden not in text, hidden
    assert [button.label for button in page.button] == ["Pause", "Good", "Defect"]
    answer_button(page, DEFECT).click().run()  # type: ignore[attr-defined]
    (given,) = answers(line)
    assert (given.operator, given.repeat, given.answer) == ("Anna", 0, DEFECT)
    assert 0.0 < given.took_s < 60.0


@pytest.mark.usefixtures("at_once")
def test_an_operator_pauses_and_goes_on_with_the_next_part_and_has_a_break_between_rounds(
    line: Scene, run_page: PageRunner
) -> None:
    number = made(line, parts=3)
    page = run_page("study", line)
    page.button(key=f"study:begin:{number}:1").click().run()
    answer_button(page, GOOD).click().run()  # type: ignore[attr-defined]
    page.button(key="study:pause").click().run()
    assert page.button(key=f"study:begin:{number}:1").label == "Go on"
    page = run_page("study", line)  # another day, another browser
    page.button(key=f"study:begin:{number}:1").click().run()
    for _ in range(2):
        answer_button(page, GOOD).click().run()  # type: ignore[attr-defined]
    assert "Round 1 is done" in shown(page)
    page.button(key="study:round-go").click().run()
    for _ in range(3):
        answer_button(page, DEFECT).click().run()  # type: ignore[attr-defined]
    assert "Thank you, Ben, that was the last part" in shown(page)
    next(button for button in page.button if button.label == "Back to the study").click().run()
    assert page.button(key=f"study:begin:{number}:1").disabled
    assert [(row.repeat, row.answer) for row in answers(line)] == [(0, GOOD)] * 3 + [(1, DEFECT)] * 3


def test_a_key_that_is_held_down_is_no_answer_to_the_next_part(
    line: Scene, run_page: PageRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_judging, "MIN_LOOK_S", 3600.0)
    number = made(line)
    page = run_page("study", line)
    page.button(key=f"study:begin:{number}:0").click().run()
    answer_button(page, GOOD).click().run()  # type: ignore[attr-defined]
    assert "too quick" in page.toast[0].value
    assert answers(line) == []


@pytest.mark.usefixtures("at_once")
def test_two_tabs_of_one_operator_cannot_answer_a_part_twice(line: Scene, run_page: PageRunner) -> None:
    number = made(line)
    tabs = [run_page("study", line) for _ in range(2)]
    for page in tabs:
        page.button(key=f"study:begin:{number}:0").click().run()
    answer_button(tabs[0], GOOD).click().run()  # type: ignore[attr-defined]
    answer_button(tabs[1], DEFECT).click().run()  # type: ignore[attr-defined]
    assert "an answer of a study is never changed" in shown(tabs[1])
    assert [row.answer for row in answers(line)] == [GOOD]


def test_a_lost_picture_holds_the_study_up_and_says_which(line: Scene, run_page: PageRunner) -> None:
    number = made(line)
    for picture in (line.config.data_path / "studies").rglob("*.png"):
        picture.unlink()
    page = run_page("study", line)
    page.button(key=f"study:begin:{number}:0").click().run()
    assert "is missing or damaged" in shown(page)
    assert [button.label for button in page.button] == ["Pause"]


def test_the_result_waits_for_everybody_unless_it_is_asked_for(line: Scene, run_page: PageRunner) -> None:
    number = made(line)
    page = run_page("study", line)
    page.segmented_control(key=f"study:step:{number}:True").set_value("Result").run()
    assert "Nobody has finished yet" in shown(page)
    judged(line, number, "Anna")
    judged(line, number, "Ben", leave=2)
    page.run()
    text = shown(page)
    assert "Still judging: Ben \\(10 of 12\\)" in text
    assert "effectiveness" not in text
    page.toggle(key=f"study:early:{number}").set_value(True).run()
    assert "left out of the figures" in shown(page)
    assert "effectiveness" in shown(page)


def test_the_result_shows_rates_kappas_and_the_parts_in_dispute(line: Scene, run_page: PageRunner) -> None:
    number = made(line)
    judged(line, number, "Anna")
    judged(line, number, "Ben", wrong=frozenset({0, 3}))
    text = shown(run_page("study", line))
    assert "Anna: acceptable against the truth. Ben: unacceptable" in text
    assert "66.7 %" in text  # Ben was right about 4 of 6 parts
    assert "Ben: <b" in text  # and is shown with what he got wrong
    assert "inspection system" in text
    assert "Shift &lt;A&gt; &amp; B" in text or "Shift \\<A\\> & B" in text
    assert "<A>" not in text.replace("\\<A\\>", "")
