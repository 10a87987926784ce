"""Known parts, challenges and the parts in doubt, on both databases."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from inspector.errors import NotFoundError, UsageError
from inspector.images import read_image
from inspector.store import challenges, drift, journal, labels, products, queries, stations
from inspector.store.challenges import Known
from inspector.store.engine import Store
from inspector.types import Calibration, Verdict
from tests import stored
from tests.store.test_store import record

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PICTURE = np.full((20, 30, 3), 7, np.uint8)


class Plant:
    """A station with an active recipe; each verdict and each challenge is one second later than the last."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder, self.seq, self.now = store, folder, 0, NOW
        with store.write() as session:
            self.station = stations.ensure_station(session, "line").id
        self.recipe = self.teach()
        with store.write() as session:
            stations.set_active_recipe(session, self.station, self.recipe, "me", NOW)

    def teach(self) -> int:
        with self.store.write() as session:
            asked = stored.request_recipe(
                session, self.folder, "gear", [("a.png", PICTURE)], station_id=self.station, who="me", now=NOW
            )
            products.mark_ready(
                session,
                asked.id,
                bank_path="x",
                bank_sha256="ab",
                encoder=("e", "f"),
                calibration=Calibration("provisional", 4, 1.0, (0.5,)),
                report={},
                now=NOW,
            )
            return asked.id

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def inspect(self, *verdicts: Verdict, flg: int = 0) -> list[int]:
        """Verdicts of parts; gives their sequence numbers."""
        records = []
        for verdict in verdicts:
            self.seq += 1
            records.append(record(self.seq, verdict, flg=flg, captured_at=self.tick(), recipe_id=self.recipe))
        with self.store.write() as session:
            for row in journal.commit_verdicts(session, self.station, records):
                journal.set_image_paths(session, row.inspection_id, "a.png", None)
        return [one.seq for one in records]

    def challenge(self, result: str, mode: str = challenges.PARTS, recipe: int | None = None) -> int:
        """A challenge that ends at once."""
        with self.store.write() as session:
            number = challenges.begin(session, self.station, recipe or self.recipe, 1, mode, "me", self.tick())
            challenges.end(session, number, result, "", [], self.tick())
        return number

    def standing(self) -> int | None:
        with self.store.read() as session:
            run = challenges.standing(session, self.station)
            return None if run is None else run.id

    def suspects(self, mode: str = challenges.PARTS) -> list[int]:
        with self.store.read() as session:
            return [row.seq for row in challenges.suspects(session, self.station, mode)]


@pytest.fixture
def plant(store: Store, tmp_path: Path) -> Plant:
    return Plant(store, tmp_path)


def add(plant: Plant, known: Known, set_no: int = 1, *, picture: bool = False) -> int:
    with plant.store.write() as session:
        product = products.find_product(session, "gear")
        image = PICTURE if picture else None
        return stored.add_member(
            session, plant.folder, product, known, set_no=set_no, image=image, who="me", now=NOW
        ).id


def names(plant: Plant, set_no: int | None = None) -> list[str]:
    with plant.store.read() as session:
        product = products.find_product(session, "gear")
        return [one.name for one in challenges.members(session, product.id, set_no)]


def test_known_parts_stay_in_their_order_with_their_picture(plant: Plant) -> None:
    add(plant, Known("b", "good"), picture=True)
    add(plant, Known("a", "defect", "scratch", "A-1"))
    add(plant, Known("b", "good"), set_no=2)
    assert names(plant, 1) == ["b", "a"]
    assert names(plant) == ["b", "a", "b"]
    with plant.store.read() as session:
        first, second, _ = challenges.members(session, products.find_product(session, "gear").id)
        assert (second.kind, second.part, second.path) == ("scratch", "A-1", None)
        assert first.path is not None
        assert (read_image(plant.folder / first.path) == PICTURE).all()
        assert [row.action for row in queries.audit_tail(session, 3)] == ["challenge part"] * 3


def test_a_retired_part_leaves_its_place_and_its_name_free(plant: Plant) -> None:
    number = add(plant, Known("a", "good"))
    add(plant, Known("b", "good"))
    with plant.store.write() as session:
        challenges.retire(session, number, "me", NOW)
    assert names(plant) == ["b"]
    add(plant, Known("a", "defect"))
    assert names(plant) == ["b", "a"]
    with pytest.raises(NotFoundError, match="no challenge part"), plant.store.write() as session:
        challenges.retire(session, number, "me", NOW)


def test_a_name_that_is_taken_is_refused_and_leaves_no_picture(plant: Plant) -> None:
    add(plant, Known("a", "good"), picture=True)
    with pytest.raises(UsageError, match="already in challenge set 1 of gear"):
        add(plant, Known("a", "defect"), picture=True)
    assert len(list((plant.folder / "challenge").rglob("*.png"))) == 1


@pytest.mark.parametrize("wrong", [("a", "ok"), ("", "good"), ("x" * 65, "good"), ("a", "defect", "k" * 65)])
def test_a_known_part_says_what_it_must_be_found_to_be(wrong: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        Known(*wrong)


def test_a_full_set_is_refused(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenges, "MAX_MEMBERS", 2)
    add(plant, Known("a", "good"))
    add(plant, Known("b", "good"))
    with pytest.raises(UsageError, match="at most 2 parts"):
        add(plant, Known("c", "good"))


def test_a_challenge_that_a_killed_worker_left_is_given_up_when_the_next_one_begins(plant: Plant) -> None:
    with plant.store.write() as session:
        left = challenges.begin(session, plant.station, plant.recipe, 1, challenges.PICTURES, "me", NOW)
    plant.challenge(challenges.PASSED)
    with plant.store.read() as session:
        run = challenges.get_run(session, left)
        assert (run.result, run.reason) == (challenges.ABORTED, "the worker ended")
        assert [one.id for one in challenges.runs(session, plant.station)] == [left + 1, left]


def test_a_failure_with_parts_is_settled_by_parts_only_one_with_pictures_by_both(plant: Plant) -> None:
    assert plant.standing() is None
    failed = plant.challenge(challenges.FAILED, challenges.PICTURES)
    assert plant.standing() == failed
    plant.challenge(challenges.ABORTED, challenges.PICTURES)
    assert plant.standing() == failed
    plant.challenge(challenges.PASSED, challenges.PICTURES)
    assert plant.standing() is None
    failed = plant.challenge(challenges.FAILED, challenges.PARTS)
    plant.challenge(challenges.PASSED, challenges.PICTURES)
    assert plant.standing() == failed
    plant.challenge(challenges.PASSED, challenges.PARTS)
    assert plant.standing() is None


def test_an_override_releases_needs_a_reason_and_a_failure_and_the_next_failure_holds_again(plant: Plant) -> None:
    passed, failed = plant.challenge(challenges.PASSED), plant.challenge(challenges.FAILED)
    for number, reason, message in (
        (failed, " ", "needs a reason"),
        (passed, "x", "has not failed"),
        (99, "x", "no ch"),
    ):
        with pytest.raises((UsageError, NotFoundError), match=message), plant.store.write() as session:
            challenges.override(session, number, reason, "chief", NOW)
    assert plant.standing() == failed
    with plant.store.write() as session:
        challenges.override(session, failed, " dirty golden part ", "chief", NOW)
    assert plant.standing() is None
    with plant.store.read() as session:
        assert [run.id for run in challenges.unsettled(session, plant.station)] == [failed]
        (note, *_) = queries.audit_tail(session, 1)
        assert (note.action, note.who, note.detail["reason"]) == ("challenge overridden", "chief", "dirty golden part")
    assert plant.standing() is None
    again = plant.challenge(challenges.FAILED)
    assert plant.standing() == again


def test_in_doubt_is_what_was_accepted_since_the_last_passed_challenge_began(plant: Plant) -> None:
    everything = plant.inspect(Verdict.OK, Verdict.NG, Verdict.OK)
    assert plant.suspects() == [everything[0], everything[2]]
    plant.challenge(challenges.PASSED)
    assert plant.suspects() == []
    known = plant.inspect(Verdict.OK, flg=challenges.CHALLENGE_FLAG)
    later = plant.inspect(Verdict.OK, Verdict.UNDECIDED, Verdict.NONE)
    plant.challenge(challenges.PASSED, challenges.PICTURES)
    newest = plant.inspect(Verdict.OK)
    assert known[0] not in plant.suspects()
    assert plant.suspects() == [later[0], *newest]
    assert plant.suspects(challenges.PICTURES) == newest


def test_what_a_failed_challenge_put_in_doubt_stays_the_same_when_others_pass_later(plant: Plant) -> None:
    plant.inspect(Verdict.OK)
    plant.challenge(challenges.PASSED)
    doubted = plant.inspect(Verdict.OK, Verdict.OK)
    failed = plant.challenge(challenges.FAILED)
    plant.challenge(challenges.PASSED)
    plant.inspect(Verdict.OK)
    plant.challenge(challenges.FAILED)
    with plant.store.read() as session:
        doubt = challenges.doubt_of(session, challenges.get_run(session, failed))
        assert [row.seq for row in challenges.doubted(session, doubt)] == doubted
        assert challenges.count_doubted(session, doubt) == 2
        assert [row.seq for row in challenges.doubted(session, doubt, limit=1)] == doubted[:1]


def test_a_challenge_is_awaited_from_the_first_activation_or_the_last_one_with_parts_on(plant: Plant) -> None:
    def due(every_h: float) -> datetime | None:
        with plant.store.read() as session:
            return challenges.due_at(session, plant.station, plant.recipe, every_h)

    assert due(0) is None
    assert due(8) == NOW + timedelta(hours=8)
    plant.challenge(challenges.PASSED, challenges.PICTURES)
    plant.challenge(challenges.FAILED, challenges.PARTS)
    assert due(8) == NOW + timedelta(hours=8)
    plant.challenge(challenges.PASSED, challenges.PARTS)
    assert due(8) == plant.now + timedelta(hours=8)
    plant.recipe = plant.teach()  # another revision of the same product
    assert due(8) == plant.now + timedelta(hours=8)
    plant.now -= timedelta(days=3652)  # the clock is set back: the last one is still the last one
    plant.challenge(challenges.PASSED, challenges.PARTS)
    assert due(8) == plant.now + timedelta(hours=8)


def test_known_parts_count_in_no_statistics_of_the_line_and_wait_for_no_review(plant: Plant) -> None:
    plant.inspect(Verdict.OK, Verdict.NG)
    plant.inspect(Verdict.OK, Verdict.NG, Verdict.NG, flg=challenges.CHALLENGE_FLAG)
    with plant.store.read() as session:
        counts = queries.counters(session, plant.station)
        assert (counts[Verdict.OK], counts[Verdict.NG]) == (1, 1)
        product = products.find_product(session, "gear")
        assert [row.seq for row in queries.latest_of_product(session, product.id, 9)] == [2, 1]
        waiting = labels.unlabelled(session, plant.station, [int(verdict) for verdict in Verdict], 9)
        assert [row.seq for row in waiting] == [2, 1]


def test_verdicts_of_a_running_challenge_are_counted(plant: Plant) -> None:
    plant.inspect(Verdict.OK, flg=challenges.CHALLENGE_FLAG)
    with plant.store.write() as session:
        number = challenges.begin(session, plant.station, plant.recipe, 1, challenges.PARTS, "me", plant.tick())
    plant.inspect(Verdict.OK, Verdict.NG, flg=challenges.CHALLENGE_FLAG)
    plant.inspect(Verdict.OK)
    with plant.store.read() as session:
        assert challenges.inspected(session, challenges.get_run(session, number)) == 2


def test_old_points_of_drift_go_and_the_run_in_stays(plant: Plant) -> None:
    def point(minute: int) -> drift.Point:
        return drift.Point(plant.recipe, NOW + timedelta(minutes=minute), 40, 0.5, 0, "", {"level": 100.0})

    with plant.store.write() as session:
        drift.keep_run_in(session, plant.station, plant.recipe, [{"score": 0.1}], NOW)
        for minute in (0, 5, 10):
            drift.add_point(session, plant.station, point(minute))
    with plant.store.read() as session:
        assert [one.at.minute for one in drift.points(session, plant.station, NOW)] == [0, 5, 10]
        assert [one.at.minute for one in drift.points(session, plant.station, NOW, limit=2)] == [5, 10]
    with plant.store.write() as session:
        drift.remove_points(session, NOW + timedelta(minutes=7))
    with plant.store.read() as session:
        assert [one.at.minute for one in drift.points(session, plant.station, NOW)] == [10]
        assert drift.run_in(session, plant.station, plant.recipe) == [{"score": 0.1}]
        assert drift.run_in(session, plant.station, plant.recipe + 1) == []
