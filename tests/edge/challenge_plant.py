"""A station with a database and a verification, for the tests of challenges; the detector says what the test wants."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session

from edge.capture import Intake
from edge.elapsed import RunClock
from edge.parts import Part, part_of_frame
from edge.state import Station
from edge.verdicts import Answer, Statement, held, judge
from edge.verification import Bench, Verification
from inspector.config import ChallengeConfig
from inspector.contract.codes import Flag, StationMode
from inspector.store import challenges, engine, journal, products, stations
from inspector.store.challenges import Known
from inspector.store.schema import Activation
from inspector.store.writer import StoreWriter
from inspector.types import Frame
from tests import stored
from tests.edge.detector_stub import active, inspection
from tests.edge.part_maker import part

NOW = datetime(2026, 1, 2, tzinfo=UTC)
IMAGE = np.full((32, 32, 3), 90, np.uint8)


class Plant:
    """A station with a database. `score` is what the detector says of each picture that is shown; a test that wants more
    of what becomes of them sets `on_picture`."""

    def __init__(self, folder: Path, config: ChallengeConfig, clock: RunClock | None = None) -> None:
        url = f"sqlite:///{folder / 'x.db'}"
        engine.upgrade(url)
        self.folder, self.seq, self.score = folder, 0, 0.5
        self.store = engine.open_store(url)
        self.writer = StoreWriter(self.store)
        self.writer.start()
        self.station = Station(boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)
        self.station_id: int = self.writer.call(lambda session: stations.ensure_station(session, "s").id)
        self.recipe_id: int = self.writer.call(self.teach)
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
        self.on_picture: Callable[[Part], None] = lambda shown: self.judge(shown, self.score)
        self.verification = Verification(config, self.plant, clock)

    def teach(self, session: Session) -> int:
        """A revision of the product, active since January."""
        recipe_id = self.teach_new(session, "gear")
        session.add(Activation(station_id=self.station_id, recipe_id=recipe_id, activated_at=NOW))
        return recipe_id

    def teach_new(self, session: Session, name: str = "flange") -> int:
        """A revision that was never active."""
        recipe = stored.request_recipe(
            session, self.folder, name, [("1.png", IMAGE)], station_id=None, who="t", now=NOW, status="ready"
        )
        return recipe.id

    def _publish(self, payload: bytes) -> bool:
        if self.connected:
            self.sent.append(payload)
        return self.connected

    def know(self, name: str, expected: str, *, picture: bool = False, set_no: int = 1, part: str = "") -> int:
        """Gives the number of the known part, which is the frame's when its picture is shown."""

        def add(session: Session) -> int:
            product = products.find_product(session, "gear")
            image = IMAGE if picture else None
            known = Known(name, expected, part=part)
            made = stored.add_member(session, self.folder, product, known, set_no=set_no, image=image, who="t", now=NOW)
            return made.id

        number: int = self.writer.call(add)
        return number

    def judge(self, shown: Part, score: float) -> Answer:
        """The verdict of a part, as the inspection loop gives it."""
        current = self.station.snapshot
        assert current.active is not None
        answer = held(judge(shown, inspection(score), current.active, now_monotonic_s=0.5), current.hold)
        self.tell(answer)
        return answer

    def tell(self, answer: Answer) -> None:
        """Number an answer, store it, and let the verification hear of it."""
        shown = answer.part
        self.seq += 1
        flags = answer.flags | Flag.CHALLENGE if shown.challenge else answer.flags  # as the inspection loop does
        statement = Statement(replace(answer, flags=flags), self.seq, 1)
        self.writer.call(lambda session: journal.commit_verdicts(session, self.station_id, [statement.record(0.6)]))
        self.verification.seen(statement)

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
    """Gives a kept picture to the plant at once, as an idle line does."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    def challenge(self, frame: Frame) -> None:
        shown = part_of_frame(frame, number=1, epoch=0, deadline_s=60.0, challenge=True)
        self._plant.on_picture(replace(shown, deadline_monotonic_s=1e12))


def last(plant: Plant) -> challenges.ChallengeRun:
    plant.writer.call(lambda session: None)
    with plant.store.read() as session:
        return challenges.runs(session, plant.station_id)[0]
