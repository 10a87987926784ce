"""Challenges on a station: what holds it, what releases it, and which parts are in doubt."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from edge.elapsed import RunClock
from edge.verification import PICTURES, Verification
from inspector.config import ChallengeConfig
from inspector.contract.codes import AckCode, ErrorCode, StationMode, StationState
from inspector.contract.messages import Suspects
from inspector.errors import StoreError
from inspector.store import challenges, stations
from inspector.types import Verdict
from tests.brokers import wait_until
from tests.edge.challenge_plant import NOW, Plant, last
from tests.edge.detector_stub import active
from tests.edge.test_elapsed import STEPS, Clocks


@pytest.fixture
def config() -> ChallengeConfig:
    return ChallengeConfig(every_h=8.0)


@pytest.fixture
def plant(tmp_path: Path, config: ChallengeConfig) -> Iterator[Plant]:
    made = Plant(tmp_path, config)
    yield made
    made.close()


def fail_with_parts(plant: Plant) -> None:
    plant.know("scratch", "defect")
    assert plant.verification.begin(1, challenges.PARTS, "op") is AckCode.DONE
    plant.put_on_the_line(0.5)


def test_a_set_without_parts_cannot_be_run(plant: Plant) -> None:
    assert plant.verification.begin(1, challenges.PARTS, "op") is AckCode.UNKNOWN_RECIPE
    assert "set 1 of bracket has no parts" in plant.verification.problem
    plant.know("scratch", "defect")
    assert plant.verification.begin(1, challenges.PICTURES, "op") is AckCode.UNKNOWN_RECIPE
    assert "no parts with kept pictures" in plant.verification.problem


def test_a_challenge_with_parts_passes_and_production_goes_on(plant: Plant) -> None:
    plant.know("golden", "good")
    plant.know("scratch", "defect")
    assert plant.verification.begin(1, challenges.PARTS, "op") is AckCode.DONE
    assert plant.station.mode is StationMode.CHALLENGE
    assert plant.verification.begin(1, challenges.PARTS, "op") is AckCode.BUSY
    plant.put_on_the_line(0.5)
    plant.put_on_the_line(3.0)
    assert last(plant).result == challenges.PASSED
    assert plant.station.mode is StationMode.PRODUCTION
    plant.tick()
    assert plant.production().verdict is Verdict.OK


def test_a_defect_that_was_accepted_holds_the_station_and_names_the_parts_in_doubt(plant: Plant) -> None:
    for _ in range(45):
        plant.production()
    plant.production(5.0)
    fail_with_parts(plant)
    run = last(plant)
    assert (run.result, run.reason) == (challenges.FAILED, "scratch: a defect that was accepted")
    answer = plant.production()
    assert (answer.verdict, answer.err) == (Verdict.NONE, ErrorCode.CHALLENGE_FAILED)
    assert plant.station.shown == (StationState.HALTED, ErrorCode.CHALLENGE_FAILED)
    plant.tick()
    pages = [Suspects.from_json(payload) for payload in plant.sent]
    assert [(page.page, page.pages, page.err, page.ch) for page in pages] == [(1, 2, 702, run.id), (2, 2, 702, run.id)]
    assert [one.seq for page in pages for one in page.parts] == list(range(1, 46))  # the accepted ones, no other
    assert plant.station.alarms.first is ErrorCode.CHALLENGE_FAILED


def test_parts_in_doubt_are_told_when_the_broker_is_back(plant: Plant) -> None:
    plant.production()
    plant.connected = False
    fail_with_parts(plant)
    plant.tick()
    assert plant.sent == []
    plant.connected = True
    plant.tick()
    assert json.loads(plant.sent[0])["parts"][0]["seq"] == 1


def test_a_passed_challenge_with_parts_releases_the_station(plant: Plant) -> None:
    fail_with_parts(plant)
    plant.tick()
    assert plant.verification.begin(1, challenges.PARTS, "op") is AckCode.DONE
    assert plant.put_on_the_line(3.0).verdict is Verdict.NG
    plant.tick()
    assert plant.station.alarms.message(1).alarms == []
    assert plant.production().verdict is Verdict.OK


def test_kept_pictures_prove_less_than_parts_and_do_not_settle_their_failure(plant: Plant) -> None:
    fail_with_parts(plant)
    plant.tick()
    plant.know("hole", "defect", picture=True, set_no=2)
    plant.score = 3.0
    assert plant.verification.begin(2, challenges.PICTURES, "op") is AckCode.DONE
    wait_until(lambda: last(plant).result == challenges.PASSED)
    plant.tick()
    assert plant.production().err is ErrorCode.CHALLENGE_FAILED


def test_kept_pictures_are_inspected_beside_the_production(plant: Plant) -> None:
    plant.know("golden", "good", picture=True)
    assert plant.verification.begin(1, challenges.PICTURES, "schedule") is AckCode.DONE
    wait_until(lambda: last(plant).result == challenges.PASSED)
    (member,) = last(plant).members
    assert member["seen"][0]["camera"] == PICTURES
    assert plant.station.mode is StationMode.PRODUCTION


def test_a_failure_outlives_a_restart_and_an_override_ends_it(plant: Plant) -> None:
    fail_with_parts(plant)
    number = last(plant).id
    plant.station.hold(ErrorCode.NONE)  # a new process knows nothing
    Verification(ChallengeConfig(), plant.plant).tick()
    assert plant.production().err is ErrorCode.CHALLENGE_FAILED
    plant.writer.call(lambda session: challenges.override(session, number, "camera was covered", "eng", NOW))
    plant.tick()
    assert plant.production().verdict is Verdict.OK


def test_an_overdue_challenge_is_told_once_with_the_parts_since(plant: Plant) -> None:
    plant.production()
    plant.tick()  # the product was activated in January: eight hours are over
    plant.tick()
    assert plant.station.alarms.first is ErrorCode.CHALLENGE_OVERDUE
    assert plant.production().verdict is Verdict.OK
    assert len(plant.sent) == 1
    assert json.loads(plant.sent[0])["err"] == 701


@pytest.mark.parametrize("config", [ChallengeConfig(every_h=8.0, overdue_holds=True)])
def test_an_overdue_challenge_holds_the_station_where_that_is_wanted(plant: Plant) -> None:
    plant.tick()
    assert plant.production().err is ErrorCode.CHALLENGE_OVERDUE
    plant.know("scratch", "defect")
    assert plant.verification.begin(1, challenges.PARTS, "op") is AckCode.DONE
    plant.put_on_the_line(3.0)
    plant.tick()
    assert plant.production().verdict is Verdict.OK


@pytest.mark.parametrize("config", [ChallengeConfig(timeout_s=1e-6)])
def test_a_challenge_that_takes_too_long_has_failed_by_what_was_not_seen(plant: Plant) -> None:
    plant.know("golden", "good")
    plant.know("scratch", "defect")
    plant.verification.begin(1, challenges.PARTS, "op")
    plant.put_on_the_line(0.5)
    plant.tick()
    assert (last(plant).result, last(plant).reason) == (challenges.FAILED, "scratch: not seen")


def test_a_challenge_of_which_nothing_came_is_given_up_and_proves_nothing(plant: Plant) -> None:
    plant.know("golden", "good")
    plant.verification.begin(1, challenges.PARTS, "op")
    assert plant.verification.end() is AckCode.DONE
    assert last(plant).result == challenges.ABORTED
    assert plant.verification.end() is AckCode.WRONG_STATE
    plant.tick()
    assert plant.production().verdict is Verdict.OK


def test_kept_pictures_that_are_gone_have_failed(plant: Plant) -> None:
    plant.know("golden", "good", picture=True)
    for path in plant.folder.glob("challenge/**/*.png"):
        path.unlink()
    plant.verification.begin(1, challenges.PICTURES, "op")
    wait_until(lambda: last(plant).result == challenges.FAILED)
    assert last(plant).reason == "golden: not seen"


@pytest.mark.parametrize("config", [ChallengeConfig(pictures_every_min=1e-6)])
def test_kept_pictures_are_inspected_by_the_schedule(plant: Plant) -> None:
    plant.know("golden", "good", picture=True)
    plant.tick()
    wait_until(lambda: last(plant).result == challenges.PASSED)
    assert last(plant).began_by == "schedule"


def test_time_since_the_last_passed_challenge_counts_from_its_end(plant: Plant) -> None:
    with plant.store.read() as session:
        assert challenges.verified_since(session, plant.station_id, plant.recipe_id) == NOW
    plant.know("scratch", "defect")
    plant.verification.begin(1, challenges.PARTS, "op")
    plant.put_on_the_line(3.0)
    plant.writer.call(lambda session: None)
    with plant.store.read() as session:
        since = challenges.verified_since(session, plant.station_id, plant.recipe_id)
    assert since is not None
    assert datetime.now(UTC) - since < timedelta(minutes=1)


HOLDS = ChallengeConfig(every_h=8.0, overdue_holds=True)


@pytest.mark.parametrize("config", [HOLDS])
def test_an_overdue_product_is_held_before_its_first_part_can_be_judged(plant: Plant) -> None:
    held_by: list[ErrorCode] = []
    snapshot = plant.station.snapshot
    plant.verification.take_over(snapshot.active, lambda: held_by.append(plant.station.snapshot.hold))
    assert held_by == [ErrorCode.CHALLENGE_OVERDUE]
    plant.verification.take_over(None, lambda: held_by.append(plant.station.snapshot.hold))
    assert held_by[1:] == [ErrorCode.NONE]


@pytest.mark.parametrize("config", [HOLDS])
def test_while_a_product_takes_over_no_look_at_the_one_before_releases_the_station(plant: Plant) -> None:
    current, seen = plant.station.snapshot.active, []
    plant.station.activate(active(recipe_id=99))  # never activated before: nothing is awaited of it
    looker = threading.Thread(target=plant.verification.tick)

    def activate() -> None:
        looker.start()
        looker.join(0.2)
        seen.append(plant.station.snapshot.hold)
        assert current is not None
        plant.station.activate(current)

    plant.verification.take_over(current, activate)
    looker.join()
    assert seen == [ErrorCode.CHALLENGE_OVERDUE]
    assert plant.station.snapshot.hold is ErrorCode.CHALLENGE_OVERDUE


@pytest.mark.parametrize(
    ("config", "hold"), [(HOLDS, ErrorCode.CHALLENGE_OVERDUE), (ChallengeConfig(), ErrorCode.NONE)]
)
def test_a_product_of_which_nothing_can_be_read_is_taken_for_overdue_until_it_can(
    plant: Plant, hold: ErrorCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.know("scratch", "defect")
    plant.verification.begin(1, challenges.PARTS, "op")
    plant.put_on_the_line(3.0)
    plant.tick()

    def away() -> None:
        raise StoreError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(plant.store, "read", away)
        plant.verification.take_over(plant.station.snapshot.active, lambda: None)
    assert plant.station.snapshot.hold is hold
    plant.tick()
    assert plant.station.snapshot.hold is ErrorCode.NONE


def test_a_challenge_that_fails_while_the_database_is_read_stays_a_hold(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.know("scratch", "defect")
    read = plant.store.read

    @contextmanager
    def slow() -> Iterator[Session]:
        with read() as session:
            yield session
        monkeypatch.undo()
        plant.verification.begin(1, challenges.PARTS, "op")
        plant.put_on_the_line(0.5)

    monkeypatch.setattr(plant.store, "read", slow)
    plant.verification.tick()
    assert plant.station.snapshot.hold is ErrorCode.CHALLENGE_FAILED
    assert plant.station.alarms.first is ErrorCode.CHALLENGE_FAILED
    plant.tick()
    assert plant.station.snapshot.hold is ErrorCode.CHALLENGE_FAILED


def test_no_part_of_the_production_comes_between_the_end_of_a_failed_challenge_and_the_hold(plant: Plant) -> None:
    seen: list[tuple[bool, ErrorCode]] = []
    plant.station.announce = lambda: seen.append((plant.station.mode is StationMode.CHALLENGE, plant.station.shown[1]))
    fail_with_parts(plant)
    assert seen == [
        (True, ErrorCode.NONE),
        (True, ErrorCode.CHALLENGE_FAILED),
        (False, ErrorCode.CHALLENGE_FAILED),
    ]


class Timed(Plant):
    """A plant whose product was activated an hour before the run, and is due after eight."""

    def __init__(self, folder: Path, clocks: Clocks) -> None:
        super().__init__(folder, HOLDS, RunClock(clocks.utc, clocks.monotonic_s))
        self.clocks = clocks

    def is_held_after(self, duration_h: float) -> bool:
        self.clocks.wait(duration_h * 3600)
        self.tick()
        return self.station.snapshot.hold is ErrorCode.CHALLENGE_OVERDUE

    def restart(self) -> None:
        self.verification.stop()
        self.verification = Verification(HOLDS, self.plant, RunClock(self.clocks.utc, self.clocks.monotonic_s))

    def prove(self) -> None:
        self.verification.begin(1, challenges.PARTS, "op")
        self.put_on_the_line(3.0)


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[Timed]:
    made = Timed(tmp_path, Clocks(NOW + timedelta(hours=1)))
    made.know("scratch", "defect")
    yield made
    made.close()


@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_the_wall_clock_neither_holds_the_station_nor_releases_it(timed: Timed, step: timedelta) -> None:
    assert not timed.is_held_after(0.0)
    timed.clocks.set(step)
    assert not timed.is_held_after(6.9)
    assert timed.is_held_after(0.2)
    timed.clocks.set(-2 * step)
    assert timed.is_held_after(0.0)
    timed.prove()
    assert not timed.is_held_after(7.9)
    assert timed.is_held_after(0.2)


@pytest.mark.parametrize("step", STEPS)
def test_a_product_that_is_new_after_a_step_of_the_wall_clock_has_its_full_time(timed: Timed, step: timedelta) -> None:
    timed.clocks.set(step)
    at = timed.clocks.utc()
    recipe_id = timed.writer.call(timed.teach_new)
    timed.writer.call(lambda session: stations.set_active_recipe(session, timed.station_id, recipe_id, "op", at))
    new = active(recipe_id=recipe_id)
    timed.verification.take_over(new, lambda: timed.station.activate(new), at)
    assert not timed.is_held_after(7.9)
    assert timed.is_held_after(0.2)


@pytest.mark.parametrize("step", STEPS)
def test_after_a_restart_with_a_wrong_clock_a_challenge_that_passes_counts_in_full(
    timed: Timed, step: timedelta
) -> None:
    timed.clocks.wait(3600)
    timed.prove()
    timed.tick()
    timed.clocks.set(step)
    timed.restart()
    is_overdue = step > timedelta(hours=8) or step < timedelta(0)
    assert timed.is_held_after(1.5) is is_overdue
    timed.clocks.set(-step)
    assert timed.is_held_after(0.0) is is_overdue
    timed.prove()
    assert not timed.is_held_after(7.9)
    assert timed.is_held_after(0.2)
