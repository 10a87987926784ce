"""Challenges on a station: what holds it, what releases it, and which parts are in doubt."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from edge.capture import Intake
from edge.parts import Part, part_of_frame
from edge.state import Station
from edge.verdicts import Answer, Statement, held, judge
from edge.verification import PICTURES, Bench, Verification
from inspector.config import ChallengeConfig
from inspector.contract.codes import AckCode, ErrorCode, Flag, StationMode, StationState
from inspector.contract.messages import Suspects
from inspector.store import challenges, engine, journal, products, stations
from inspector.store.challenges import Known
from inspector.store.schema import Activation
from inspector.store.writer import StoreWriter
from inspector.types import Frame, Verdict
from tests import stored
from tests.brokers import wait_until
from tests.edge.detector_stub import active, inspection
from tests.edge.part_maker import part

NOW = datetime(2026, 1, 2, tzinfo=UTC)
IMAGE = np.full((32, 32, 3), 90, np.uint8)


class Plant:
    """A station with a database; `score` is what the detector says of each picture that is shown."""

    def __init__(self, folder: Path, config: ChallengeConfig) -> None:
        url = f"sqlite:///{folder / 'x.db'}"
        engine.upgrade(url)
        self.folder, self.seq, self.score = folder, 0, 0.5
        self.store = engine.open_store(url)
        self.writer = StoreWriter(self.store)
        self.writer.start()
        self.station = Station(boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)
        self.station_id: int = self.writer.call(lambda session: stations.ensure_station(session, "s").id)
        self.recipe_id: int = self.writer.call(self._teach)
        self.station.set_up(active(recipe_id=self.recipe_id))
        self.sent: list[bytes] = []
        self.connected = True
        self.plant = Bench(
            station=self.station,
            station_id=self.station_id,
            writer=self.writer,
            intake=_Intake(self),
            data_path=folder,
            cameras=["a"],
            publish=self._publish,
        )
        self.verification = Verification(config, self.plant)

    def _teach(self, session: object) -> int:
        recipe = stored.request_recipe(
            session, self.folder, "gear", [("1.png", IMAGE)], station_id=None, who="t", now=NOW, status="ready"
        )
        session.add(Activation(station_id=self.station_id, recipe_id=recipe.id, activated_at=NOW))
        return recipe.id

    def _publish(self, payload: bytes) -> bool:
        if self.connected:
            self.sent.append(payload)
        return self.connected

    def know(self, name: str, expected: str, *, picture: bool = False, set_no: int = 1) -> None:
        def add(session: object) -> None:
            product = products.find_product(session, "gear")
            image = IMAGE if picture else None
            stored.add_member(
                session, self.folder, product, Known(name, expected), set_no=set_no, image=image, who="t", now=NOW
            )

        self.writer.call(add)

    def judge(self, shown: Part, score: float) -> Answer:
        """The verdict of a part, as the inspection loop gives it."""
        current = self.station.snapshot
        assert current.active is not None
        answer = held(judge(shown, inspection(score), current.active, now_monotonic_s=0.5), current.hold)
        self.seq += 1
        flags = answer.flags | Flag.CHALLENGE if shown.challenge else answer.flags  # as the inspection loop does
        statement = Statement(replace(answer, flags=flags), self.seq, 1)
        self.writer.call(lambda session: journal.commit_verdicts(session, self.station_id, [statement.record(0.6)]))
        self.verification.seen(statement)
        return answer

    def production(self, score: float = 0.5) -> Answer:
        return self.judge(part(self.seq + 1), score)

    def put_on_the_line(self, score: float) -> Answer:
        """A known part before the camera."""
        assert self.station.snapshot.challenge
        return self.judge(replace(part(self.seq + 1), challenge=True, part_id=""), score)

    def tick(self) -> None:
        """As the scheduler does, once what was posted is written."""
        self.writer.call(lambda session: None)
        self.verification.tick()

    def close(self) -> None:
        self.verification.stop()
        self.writer.stop()
        self.store.close()


class _Intake(Intake):
    """Answers a kept picture at once, as an idle line does."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    def challenge(self, frame: Frame) -> None:
        shown = part_of_frame(frame, number=1, epoch=0, deadline_s=60.0, challenge=True)
        self._plant.judge(replace(shown, deadline_monotonic_s=1e12), self._plant.score)


@pytest.fixture
def config() -> ChallengeConfig:
    return ChallengeConfig(every_h=8.0)


@pytest.fixture
def plant(tmp_path: Path, config: ChallengeConfig) -> Iterator[Plant]:
    made = Plant(tmp_path, config)
    yield made
    made.close()


def last(plant: Plant) -> challenges.ChallengeRun:
    plant.writer.call(lambda session: None)
    with plant.store.read() as session:
        return challenges.runs(session, plant.station_id)[0]


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
