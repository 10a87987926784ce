"""Challenges with kept pictures: whose verdict is whose, and what becomes of them when the station does not judge."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge import verification
from edge.elapsed import RunClock
from edge.parts import Part
from edge.verdicts import Answer, refuse
from inspector.config import ChallengeConfig
from inspector.contract.codes import AckCode, ErrorCode
from inspector.errors import StoreError
from inspector.store import challenges
from inspector.types import Verdict
from tests.brokers import wait_until
from tests.edge.challenge_plant import Plant, last
from tests.edge.detector_stub import active
from tests.edge.test_elapsed import Clocks

GOOD_SCORE, BAD_SCORE = 0.5, 3.0
ENDED = (challenges.PASSED, challenges.FAILED, challenges.ABORTED)


class _Pauses(threading.Event):
    """Counts the pauses between two tries instead of waiting for them."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_s.append(timeout)
        return self.is_set()


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def plant(tmp_path: Path, clocks: Clocks) -> Iterator[Plant]:
    config = ChallengeConfig(pictures_every_min=60)
    made = Plant(tmp_path, config, RunClock(clocks.utc, clocks.monotonic_s))
    yield made
    made.close()


@pytest.fixture
def pauses(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> _Pauses:
    made = _Pauses()
    monkeypatch.setattr(plant.verification, "_stopping", made)
    return made


def run(plant: Plant) -> challenges.ChallengeRun:
    assert plant.verification.begin(1, challenges.PICTURES, "op") is AckCode.DONE
    wait_until(lambda: last(plant).result in ENDED, 30)
    return last(plant)


def faults(one: challenges.ChallengeRun) -> dict[str, str]:
    return {member["name"]: member["fault"] for member in one.members}


def verdicts(one: challenges.ChallengeRun) -> dict[str, list[int]]:
    return {member["name"]: [seen["verdict"] for seen in member["seen"]] for member in one.members}


def by_number(plant: Plant, bad: int) -> Callable[[Part], None]:
    """A detector that finds the defect of one known part, and nothing in the others."""

    def judge(shown: Part) -> None:
        plant.judge(shown, BAD_SCORE if shown.frame_id == bad else GOOD_SCORE)

    return judge


def test_a_picture_is_its_own_member_s_also_if_that_has_a_part_id(plant: Plant) -> None:
    scratch = plant.know("scratch", challenges.DEFECT, picture=True, part="D1")
    plant.know("golden", challenges.GOOD, picture=True)
    plant.on_picture = by_number(plant, scratch)
    one = run(plant)
    assert (one.result, one.reason) == (challenges.PASSED, "")
    assert verdicts(one) == {"scratch": [Verdict.NG], "golden": [Verdict.OK]}


def test_after_a_picture_that_cannot_be_read_the_others_keep_their_own_verdicts(plant: Plant) -> None:
    plant.know("lost", challenges.GOOD, picture=True)
    for path in plant.folder.glob("challenge/**/*.png"):
        path.unlink()
    scratch = plant.know("scratch", challenges.DEFECT, picture=True)
    plant.know("golden", challenges.GOOD, picture=True)
    plant.on_picture = by_number(plant, scratch)
    one = run(plant)
    assert (one.result, one.reason) == (challenges.FAILED, "lost: not seen")
    assert verdicts(one) == {"lost": [], "scratch": [Verdict.NG], "golden": [Verdict.OK]}


def test_a_picture_in_which_nothing_can_be_seen_was_not_scored_and_moves_no_other_one(plant: Plant) -> None:
    dark = plant.know("dark", challenges.GOOD, picture=True)
    plant.know("golden", challenges.GOOD, picture=True)

    def judge(shown: Part) -> None:
        if shown.frame_id == dark:
            too_dark = Answer(shown, Verdict.NONE, ErrorCode.TOO_DARK, active=plant.station.snapshot.active)
            plant.tell(too_dark)
        else:
            plant.judge(shown, GOOD_SCORE)

    plant.on_picture = judge
    one = run(plant)
    assert (one.result, one.reason) == (challenges.FAILED, "dark: not scored")
    assert verdicts(one) == {"dark": [Verdict.NONE], "golden": [Verdict.OK]}


def test_a_late_answer_and_the_one_to_the_repeat_count_once(
    plant: Plant, pauses: _Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "ANSWER_S", 0.05)
    first = plant.know("scratch", challenges.DEFECT, picture=True)
    plant.know("hole", challenges.DEFECT, picture=True)
    shown_before: list[Part] = []

    def judge(shown: Part) -> None:
        shown_before.append(shown)
        if len(shown_before) == 2:
            plant.judge(shown_before[0], BAD_SCORE)
        if len(shown_before) > 1:
            plant.judge(shown, BAD_SCORE if shown.frame_id == first else GOOD_SCORE)

    plant.on_picture = judge
    one = run(plant)
    assert (one.result, one.reason) == (challenges.FAILED, "hole: a defect that was accepted")
    assert verdicts(one) == {"scratch": [Verdict.NG], "hole": [Verdict.OK]}
    assert len(pauses.waited_s) == 1


def test_an_answer_to_the_picture_before_is_not_that_of_the_picture_which_is_shown(plant: Plant) -> None:
    plant.know("scratch", challenges.DEFECT, picture=True)
    second = plant.know("hole", challenges.DEFECT, picture=True)
    shown_before: list[Part] = []

    def judge(shown: Part) -> None:
        shown_before.append(shown)
        if shown.frame_id == second:
            plant.judge(shown_before[0], BAD_SCORE)
        plant.judge(shown, GOOD_SCORE if shown.frame_id == second else BAD_SCORE)

    plant.on_picture = judge
    assert run(plant).reason == "hole: a defect that was accepted"


def test_an_answer_that_a_challenge_before_still_awaited_is_not_one_of_this(plant: Plant, clocks: Clocks) -> None:
    plant.know("scratch", challenges.DEFECT, picture=True)
    stale: list[Part] = []

    def stop(shown: Part) -> None:
        stale.append(shown)
        plant.verification.end()

    plant.on_picture = stop
    run(plant)
    clocks.wait(5.0)

    def judge(shown: Part) -> None:
        plant.judge(stale[0], BAD_SCORE)
        plant.judge(shown, GOOD_SCORE)

    plant.on_picture = judge
    assert run(plant).reason == "scratch: a defect that was accepted"


def stopped(plant: Plant, shown: Part) -> None:
    plant.station.run(False)
    plant.tell(refuse(shown, ErrorCode.ABORTED, "the station is stopped"))


def halted(plant: Plant, shown: Part) -> None:
    plant.station.halt()
    plant.tell(refuse(shown, ErrorCode.ABORTED, "the station is halted"))


def without_store(plant: Plant, shown: Part) -> None:
    plant.station.fail(ErrorCode.STORAGE)
    plant.tell(refuse(shown, ErrorCode.STORAGE, "verdicts cannot be stored"))


def not_stored(plant: Plant, shown: Part) -> None:
    """The first verdict that could not be stored: scored, but not told."""
    plant.station.fail(ErrorCode.STORAGE)
    current = plant.station.snapshot.active
    plant.tell(Answer(shown, Verdict.NONE, ErrorCode.STORAGE, "the verdict could not be stored", active=current))


def changed(plant: Plant, shown: Part) -> None:
    """A product change that began in the moment in which the challenge did."""
    plant.station.activate(active(recipe_id=plant.writer.call(plant.teach)))
    plant.judge(shown, BAD_SCORE)


@pytest.mark.parametrize("refused", [stopped, halted, without_store, not_stored, changed])
def test_a_challenge_of_a_station_that_does_not_judge_is_given_up_and_holds_nobody(
    plant: Plant, refused: Callable[[Plant, Part], None]
) -> None:
    plant.know("scratch", challenges.DEFECT, picture=True)
    plant.know("golden", challenges.GOOD, picture=True)
    shown_before: list[int] = []

    def answer(shown: Part) -> None:
        shown_before.append(shown.frame_id)
        refused(plant, shown)

    plant.on_picture = answer
    one = run(plant)
    assert one.result == challenges.ABORTED
    assert one.reason.startswith("scratch: ")
    assert len(shown_before) == 1
    plant.tick()
    assert plant.station.snapshot.hold is ErrorCode.NONE
    assert plant.sent == []


def test_in_a_jam_a_picture_is_shown_again_after_a_pause(plant: Plant, pauses: _Pauses) -> None:
    plant.know("golden", challenges.GOOD, picture=True)
    answers = [ErrorCode.QUEUE_OVERFLOW, ErrorCode.DEADLINE_MISSED]

    def answer(shown: Part) -> None:
        if answers:
            plant.tell(refuse(shown, answers.pop(0), "the line is busy"))
        else:
            plant.judge(shown, GOOD_SCORE)

    plant.on_picture = answer
    assert run(plant).result == challenges.PASSED
    assert pauses.waited_s == [verification.PAUSE_S] * 2


def test_a_jam_that_does_not_clear_says_nothing_about_the_detector(plant: Plant, pauses: _Pauses) -> None:
    plant.know("scratch", challenges.DEFECT, picture=True)
    plant.know("golden", challenges.GOOD, picture=True)
    plant.on_picture = lambda shown: plant.tell(refuse(shown, ErrorCode.QUEUE_OVERFLOW, "the line is busy"))
    one = run(plant)
    assert (one.result, one.reason) == (challenges.ABORTED, "scratch: the line is busy (502)")
    assert len(pauses.waited_s) == verification.TRIES - 1
    assert faults(one)["golden"] == "not seen"
    assert plant.station.snapshot.hold is ErrorCode.NONE


def test_a_challenge_of_the_schedule_that_was_given_up_is_tried_again_soon(plant: Plant, clocks: Clocks) -> None:
    plant.know("golden", challenges.GOOD, picture=True)
    plant.on_picture = lambda shown: stopped(plant, shown)
    clocks.wait(3601.0)
    plant.tick()
    wait_until(lambda: last(plant).result == challenges.ABORTED, 30)
    plant.tick()
    clocks.wait(verification.AGAIN_S + 1.0)
    plant.tick()  # the station is still stopped: not even begun
    assert last(plant).id == 1
    plant.station.run(True)
    plant.on_picture = lambda shown: plant.judge(shown, GOOD_SCORE) and None
    plant.tick()
    assert last(plant).id == 1
    clocks.wait(verification.AGAIN_S + 1.0)
    plant.tick()
    wait_until(lambda: last(plant).result == challenges.PASSED, 30)
    assert (last(plant).id, last(plant).began_by) == (2, "schedule")
    clocks.wait(verification.AGAIN_S + 1.0)
    plant.tick()
    assert last(plant).id == 2


def test_a_challenge_of_the_schedule_that_the_database_did_not_let_begin_is_tried_again_soon(
    plant: Plant, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.know("golden", challenges.GOOD, picture=True)

    def away() -> None:
        raise StoreError("the disk is gone")

    clocks.wait(3601.0)
    with monkeypatch.context() as patch:
        patch.setattr(plant.store, "read", away)
        with pytest.raises(StoreError):
            plant.verification.tick()
    assert not plant.verification.running
    clocks.wait(verification.AGAIN_S + 1.0)
    plant.tick()
    wait_until(lambda: last(plant).result == challenges.PASSED, 30)


def test_a_challenge_runs_already_while_it_begins(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.know("golden", challenges.GOOD, picture=True)
    call, seen = plant.writer.call, []

    def slow(*work: object, **options: object) -> object:
        seen.append(plant.verification.running)
        return call(*work, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(plant.writer, "call", slow)
    plant.on_picture = lambda _: None
    assert plant.verification.begin(1, challenges.PICTURES, "op") is AckCode.DONE
    assert seen == [True]
