"""Verifies that the station still finds what it must: runs challenges, watches that they come in time, holds the station.

May import the store, the contract, `challenge` and `state`. A challenge is one of parts (an operator puts the known parts
on the line) or of pictures (kept pictures go the way of every part, beside the production). After a failed one no
part is accepted until another passes, or an engineer says in the pages why the station may go on.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from edge.capture import Intake
from edge.challenge import Challenge, Member, Seen
from edge.state import Station
from edge.verdicts import Statement
from inspector.config import ChallengeConfig
from inspector.contract.codes import AckCode, ErrorCode
from inspector.contract.messages import SuspectPart, Suspects
from inspector.errors import ImageError, StoreError
from inspector.images import read_image
from inspector.store import challenges, products
from inspector.store.schema import ChallengeMember
from inspector.store.writer import StoreWriter, Work
from inspector.types import Frame, Verdict

log = logging.getLogger(__name__)

PICTURES = "challenge"
"""Name of the camera that the kept pictures seem to come from."""
ANSWER_S = 10.0
TRIES = 3
"""A kept picture whose turn was missed, because the line was busy, is shown again."""


@dataclass(frozen=True, eq=False)
class Bench:
    """What challenges work with. `publish` sends a message on `suspect` and tells whether it could be sent."""

    station: Station
    station_id: int
    writer: StoreWriter
    intake: Intake
    data_path: Path
    cameras: Sequence[str]
    publish: Callable[[bytes], bool]


@dataclass(eq=False)
class _Running:
    challenge: Challenge
    mode: str
    until_monotonic_s: float
    answered: threading.Event
    last: Verdict = Verdict.NONE


@dataclass(frozen=True)
class _Doubt:
    """Why the last parts are in doubt; challenge `number`, 0 if one is overdue."""

    err: ErrorCode
    number: int
    mode: str


class Verification:
    """At most one challenge at a time. `seen` is called by the inspection loop and never blocks."""

    def __init__(self, config: ChallengeConfig, bench: Bench) -> None:
        self._config = config
        self._bench = bench
        self._running: _Running | None = None
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._beginning = False
        self._unwritten: tuple[Work, Future[Any]] | None = None
        self._doubted: _Doubt | None = None
        self._owed_pages: list[Suspects] = []
        self._overdue = False
        self._pictures_at = time.monotonic() + config.pictures_every_min * 60
        self.problem = ""

    def stop(self) -> None:
        """A challenge that runs is given up."""
        self._stopping.set()
        with self._lock:
            if self._running is not None:
                self._finish(self._running, challenges.ABORTED, "the station stops")

    @property
    def running(self) -> bool:
        return self._running is not None

    def begin(self, set_no: int, mode: str, who: str) -> AckCode:
        """Start a challenge with a set of the active product; `problem` says why it could not."""
        with self._lock:
            if self._running is not None or self._beginning:
                return AckCode.BUSY
            self._beginning = True
        try:
            return self._begin(set_no, mode, who)
        finally:
            self._beginning = False

    def _begin(self, set_no: int, mode: str, who: str) -> AckCode:
        bench, snapshot = self._bench, self._bench.station.snapshot
        active, self.problem = snapshot.active, ""
        if active is None or snapshot.refusal is not ErrorCode.NONE:
            return AckCode.WRONG_STATE
        with bench.writer.store.read() as session:
            rows = challenges.members(session, products.get_recipe(session, active.recipe_id).product_id, set_no)
        members = [_member(row) for row in rows if mode == challenges.PARTS or row.path]
        if not members:
            what = " with kept pictures" if mode == challenges.PICTURES else ""
            self.problem = f"challenge set {set_no} of {active.name} has no parts{what}"
            return AckCode.UNKNOWN_RECIPE
        now = datetime.now(UTC)
        number: int = bench.writer.call(
            lambda session: challenges.begin(session, bench.station_id, active.recipe_id, set_no, mode, who, now)
        )
        log.info("challenge %d begins: %d %s of set %d, asked for by %s", number, len(members), mode, set_no, who)
        cameras = [PICTURES] if mode == challenges.PICTURES else list(bench.cameras)
        until = time.monotonic() + self._config.timeout_s
        self._running = running = _Running(Challenge(number, members, cameras), mode, until, threading.Event())
        if mode == challenges.PARTS:
            bench.station.challenge(True)
        else:
            threading.Thread(target=self._show, args=(running,), name="challenge", daemon=True).start()
        return AckCode.DONE

    def end(self) -> AckCode:
        """End the challenge that runs; what was not seen has failed, and if nothing was, it is given up."""
        with self._lock:
            if self._running is None:
                return AckCode.WRONG_STATE
            self._decide(self._running)
        return AckCode.DONE

    def seen(self, statement: Statement) -> None:
        """A verdict of a challenge part has been committed."""
        answer = statement.answer
        with self._lock:
            running = self._running
            if running is None or not answer.part.challenge:
                return
            if (running.mode == challenges.PICTURES) != (answer.part.camera == PICTURES):
                return
            running.last = answer.verdict
            score = None if answer.inspection is None else answer.inspection.score
            if running.mode == challenges.PARTS or answer.verdict is not Verdict.NONE:
                running.challenge.take(
                    answer.part.part_id, Seen(answer.part.camera, answer.verdict, statement.seq, score)
                )
            running.answered.set()
            if running.challenge.complete:
                self._decide(running)

    def tick(self) -> None:
        """Now and then: give up what takes too long, start what is due, hold or release the station."""
        with self._lock:
            running = self._running
            if running is not None and time.monotonic() > running.until_monotonic_s:
                log.warning("challenge %d took longer than %g s", running.challenge.number, self._config.timeout_s)
                self._decide(running)
        if self._is_written():
            self._stand()
        self._list_suspects()
        while self._owed_pages and self._bench.publish(self._owed_pages[0].to_json()):
            self._owed_pages.pop(0)
        every_s = self._config.pictures_every_min * 60
        if every_s and time.monotonic() >= self._pictures_at and self._running is None:
            self._pictures_at = time.monotonic() + every_s
            if self.begin(1, challenges.PICTURES, "schedule") is not AckCode.DONE and self.problem:
                log.warning("no challenge could be run: %s", self.problem)

    def _show(self, running: _Running) -> None:
        """Let each kept picture go the way of every part, one at a time."""
        for member in running.challenge.members:
            try:
                image = read_image(self._bench.data_path / (member.path or ""))
            except ImageError as error:
                log.error("challenge %d: %s", running.challenge.number, error)
                continue
            for _ in range(TRIES):
                running.answered.clear()
                frame = Frame(
                    member.id, PICTURES, f"challenge:{member.id}", 0, datetime.now(UTC), time.monotonic(), image
                )
                self._bench.intake.challenge(frame)
                if running.answered.wait(ANSWER_S) and running.last is not Verdict.NONE:
                    break
            if self._stopping.is_set() or self._running is not running:
                return
        with self._lock:
            if self._running is running:
                self._decide(running)

    def _decide(self, running: _Running) -> None:
        if running.challenge.untouched and running.mode == challenges.PARTS:
            self._finish(running, challenges.ABORTED, "none of its parts came")
        else:
            result, reason, _ = running.challenge.outcome()
            self._finish(running, result, reason)

    def _finish(self, running: _Running, result: str, reason: str) -> None:
        """Write it down, tell it, and hold or release the station."""
        bench, number, now = self._bench, running.challenge.number, datetime.now(UTC)
        records = running.challenge.outcome()[2]
        self._running = None

        def write(session: Session) -> None:
            challenges.end(session, number, result, reason, records, now)

        self._unwritten = (write, bench.writer.post(write))
        if running.mode == challenges.PARTS:
            bench.station.challenge(False)
        log.log(
            logging.INFO if result == challenges.PASSED else logging.ERROR,
            "challenge %d %s%s",
            number,
            result,
            f": {reason}" if reason else "",
        )
        if result == challenges.FAILED:
            bench.station.hold(ErrorCode.CHALLENGE_FAILED)
            bench.station.alarms.up(ErrorCode.CHALLENGE_FAILED, f"challenge {number} failed: {reason}")
            self._doubted = _Doubt(ErrorCode.CHALLENGE_FAILED, number, running.mode)

    def _stand(self) -> None:
        """Hold the station by what the database says: after a restart, an override, and when a challenge is overdue."""
        bench, active = self._bench, self._bench.station.snapshot.active
        if self._running is not None:
            return
        try:
            with bench.writer.store.read() as session:
                failed = challenges.standing(session, bench.station_id)
                since = (
                    None if active is None else challenges.verified_since(session, bench.station_id, active.recipe_id)
                )
        except StoreError as error:
            log.warning("challenges cannot be read: %s", error)
            return
        limit = timedelta(hours=self._config.every_h)
        overdue = bool(self._config.every_h) and since is not None and datetime.now(UTC) - since > limit
        alarms, was_overdue = bench.station.alarms, self._overdue
        self._overdue = overdue
        if failed is not None:
            alarms.up(ErrorCode.CHALLENGE_FAILED, f"challenge {failed.id} failed: {failed.reason}")
        else:
            alarms.down(ErrorCode.CHALLENGE_FAILED)
        if overdue and since is not None:
            alarms.up(ErrorCode.CHALLENGE_OVERDUE, f"no challenge has passed since {since:%Y-%m-%d %H:%M} UTC")
            if not was_overdue and self._doubted is None:
                self._doubted = _Doubt(ErrorCode.CHALLENGE_OVERDUE, 0, challenges.PARTS)
        else:
            alarms.down(ErrorCode.CHALLENGE_OVERDUE)
        late = ErrorCode.CHALLENGE_OVERDUE if overdue and self._config.overdue_holds else ErrorCode.NONE
        bench.station.hold(ErrorCode.CHALLENGE_FAILED if failed is not None else late)

    def _is_written(self) -> bool:
        """Whether the outcome of the last challenge is in the database; a write that failed is tried again."""
        if self._unwritten is None:
            return True
        write, done = self._unwritten
        if not done.done():
            return False
        self._unwritten = None if done.exception() is None else (write, self._bench.writer.post(write))
        return self._unwritten is None

    def _list_suspects(self) -> None:
        """Everything that was accepted since the last passed challenge is in doubt."""
        if self._doubted is None:
            return
        doubt = self._doubted
        try:
            with self._bench.writer.store.read() as session:
                rows = challenges.suspects(session, self._bench.station_id, doubt.mode)
        except StoreError as error:
            log.error("the parts in doubt cannot be listed: %s", error)
            return
        self._doubted = None
        parts = [SuspectPart(boot=row.boot, seq=row.seq, trg=row.trg, part=row.part) for row in rows]
        size = Suspects.parts_of_a_page
        chunks = [parts[start : start + size] for start in range(0, len(parts), size)] or [[]]
        boot = self._bench.station.boot
        self._owed_pages = [
            Suspects(boot=boot, err=int(doubt.err), ch=doubt.number, page=page, pages=len(chunks), parts=chunk)
            for page, chunk in enumerate(chunks, start=1)
        ]
        log.error("%d parts were accepted since the last passed challenge; they are in doubt", len(parts))


def _member(row: ChallengeMember) -> Member:
    return Member(row.id, row.name, row.expected, row.kind, row.part, row.path)
