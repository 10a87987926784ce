"""Verifies that the station still finds what it must: runs challenges, watches that they come in time, holds the station.

May import the store, the contract, `challenge`, `elapsed` and `state`. A challenge is one of parts (an operator puts the
known parts on the line) or of pictures (kept pictures go the way of every part, beside the production). After a failed
one no part is accepted until another passes, or an engineer says in the pages why the station may go on.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from edge.capture import Intake
from edge.challenge import Challenge, Member, Seen
from edge.elapsed import RunClock
from edge.state import ActiveRecipe, Station
from edge.verdicts import Answer, Statement
from inspector.config import ChallengeConfig
from inspector.contract.codes import AckCode, ErrorCode
from inspector.contract.messages import SuspectPart, Suspects
from inspector.errors import ImageError, StoreError
from inspector.images import read_image
from inspector.store import challenges, products
from inspector.store.schema import ChallengeMember, ChallengeRun
from inspector.store.writer import StoreWriter, Work
from inspector.types import Frame, ImageArray, Verdict

log = logging.getLogger(__name__)

PICTURES = "challenge"
"""Name of the camera that the kept pictures seem to come from."""
SCHEDULE = "schedule"
"""Who asks for the challenges that run by themselves."""
ANSWER_S = 10.0
TRIES = 3
"""A kept picture whose turn was missed, because the line was busy, is shown again."""
PAUSE_S = 2.0
"""Between two tries, so that a jam has time to clear."""
AGAIN_S = 60.0
"""A challenge of the schedule that could not be run, or was given up, is tried again after this time."""


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
    who: str
    recipe_id: int
    began_monotonic_s: float
    answered: threading.Event = field(default_factory=threading.Event)
    shown: Member | None = None
    """Whose picture is on its way."""
    missed: str = ""
    """Why the station gave no judgement of the picture that is shown."""


@dataclass(frozen=True)
class _Doubt:
    """Why the last parts are in doubt; challenge `number`, 0 if one is overdue."""

    err: ErrorCode
    number: int
    mode: str


class Verification:
    """At most one challenge at a time. `seen` is called by the inspection loop and never blocks."""

    def __init__(self, config: ChallengeConfig, bench: Bench, clock: RunClock | None = None) -> None:
        self._config = config
        self._bench = bench
        self._clock = RunClock() if clock is None else clock
        self._running: _Running | None = None
        self._lock = threading.RLock()
        self._looking = threading.Lock()
        """Held from a look into the database until the hold that follows from it is set: no older look may undo it."""
        self._stopping = threading.Event()
        self._beginning = False
        self._unwritten: tuple[Work, Future[Any]] | None = None
        self._doubted: _Doubt | None = None
        self._owed_pages: list[Suspects] = []
        self._overdue = False
        self._pictures_at = self._clock.monotonic_s() + config.pictures_every_min * 60
        self.problem = ""

    def stop(self) -> None:
        """A challenge that runs is given up."""
        self._stopping.set()
        with self._lock:
            if self._running is not None:
                self._finish(self._running, challenges.ABORTED, "the station stops")

    @property
    def running(self) -> bool:
        """Whether one runs, or is about to."""
        return self._running is not None or self._beginning

    def begin(self, set_no: int, mode: str, who: str) -> AckCode:
        """Start a challenge with a set of the active product; `problem` says why it could not."""
        with self._lock:
            if self.running:
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
        now = self._clock.utc()
        number: int = bench.writer.call(
            lambda session: challenges.begin(session, bench.station_id, active.recipe_id, set_no, mode, who, now)
        )
        log.info("challenge %d begins: %d %s of set %d, asked for by %s", number, len(members), mode, set_no, who)
        cameras = [PICTURES] if mode == challenges.PICTURES else list(bench.cameras)
        challenge = Challenge(number, members, cameras)
        self._running = running = _Running(challenge, mode, who, active.recipe_id, self._clock.monotonic_s())
        if mode == challenges.PARTS:
            bench.station.challenge(True)
        else:
            threading.Thread(target=self._show_all, args=(running,), name="challenge", daemon=True).start()
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
        answer, part = statement.answer, statement.answer.part
        with self._lock:
            running = self._running
            if running is None or not part.challenge:
                return
            if (running.mode == challenges.PICTURES) != (part.camera == PICTURES):
                return
            score = None if answer.inspection is None else answer.inspection.score
            seen = Seen(part.camera, answer.verdict, statement.seq, score)
            if running.mode == challenges.PARTS:
                running.challenge.take(part.part_id, seen)
            else:
                _book_picture(running, answer, seen)
            if running.challenge.complete:
                self._decide(running)

    def tick(self) -> None:
        """Now and then: give up what takes too long, start what is due, hold or release the station."""
        with self._lock:
            running, now = self._running, self._clock.monotonic_s()
            if running is not None and now > running.began_monotonic_s + self._config.timeout_s:
                log.warning("challenge %d took longer than %g s", running.challenge.number, self._config.timeout_s)
                self._decide(running)
        with self._looking:
            self._stand(self._bench.station.snapshot.active)
        self._list_suspects()
        while self._owed_pages and self._bench.publish(self._owed_pages[0].to_json()):
            self._owed_pages.pop(0)
        self._begin_due()

    def take_over(
        self, active: ActiveRecipe | None, activate: Callable[[], None], first_at: datetime | None = None
    ) -> None:
        """Call `activate`, which makes this recipe the active one, when the station is held as its product demands.

        So not one part is judged by a recipe whose challenge is overdue. `first_at` is the label under which the
        activation has just been stored. What cannot be read now is taken for overdue, until the next look.
        """
        if first_at is not None:
            self._clock.witness(first_at)
        station, config = self._bench.station, self._config
        with self._looking:
            is_known = self._stand(active)
            if not is_known and config.every_h and config.overdue_holds and station.snapshot.hold is ErrorCode.NONE:
                station.hold(ErrorCode.CHALLENGE_OVERDUE)
            activate()

    def _begin_due(self) -> None:
        """Run the challenge of the schedule when its time has come."""
        every_s, now = self._config.pictures_every_min * 60, self._clock.monotonic_s()
        if not every_s or now < self._pictures_at or self.running:
            return
        self._pictures_at, code = now + every_s, AckCode.INTERNAL
        try:
            code = self.begin(1, challenges.PICTURES, SCHEDULE)
        finally:
            if code is AckCode.UNKNOWN_RECIPE:
                log.warning("no challenge could be run: %s", self.problem)
            elif code is not AckCode.DONE:  # the station is stopped, another challenge runs, the database is away
                self._schedule_again()

    def _schedule_again(self) -> None:
        self._pictures_at = min(self._pictures_at, self._clock.monotonic_s() + AGAIN_S)

    def _show_all(self, running: _Running) -> None:
        """Let each kept picture go the way of every part, one at a time."""
        for member in running.challenge.members:
            try:
                image = read_image(self._bench.data_path / (member.path or ""))
            except ImageError as error:
                log.error("challenge %d: %s", running.challenge.number, error)
                continue
            if not self._show(running, member, image):
                return
        with self._lock:
            if self._running is running:
                self._decide(running)

    def _show(self, running: _Running, member: Member, image: ImageArray) -> bool:
        """Show a picture until it is judged; False: the challenge is over, or given up because the station judges nothing."""
        for left in reversed(range(TRIES)):
            with self._lock:
                running.shown, running.missed = member, ""
                running.answered.clear()
            seen = (self._clock.utc(), self._clock.monotonic_s())
            frame = Frame(member.id, PICTURES, f"challenge:{member.id}", 0, *seen, image)
            self._bench.intake.challenge(frame)
            running.answered.wait(ANSWER_S)
            with self._lock:
                if self._running is not running:
                    return False
                if running.challenge.has_seen(member):
                    return True
                if running.missed and (not left or self._is_refusing(running)):
                    self._finish(running, challenges.ABORTED, f"{member.name}: {running.missed}")
                    return False
            if self._stopping.wait(PAUSE_S):
                return False
        return True

    def _is_refusing(self, running: _Running) -> bool:
        """Whether the station cannot judge by the recipe of this challenge now; it will not in a moment either."""
        snapshot = self._bench.station.snapshot
        active = snapshot.active
        return snapshot.refusal is not ErrorCode.NONE or active is None or active.recipe_id != running.recipe_id

    def _decide(self, running: _Running) -> None:
        if running.challenge.untouched and running.mode == challenges.PARTS:
            self._finish(running, challenges.ABORTED, "none of its parts came")
        else:
            result, reason, _ = running.challenge.outcome()
            self._finish(running, result, reason)

    def _finish(self, running: _Running, result: str, reason: str) -> None:
        """Write it down, tell it, and hold or release the station."""
        bench, number, now = self._bench, running.challenge.number, self._clock.utc()
        records = running.challenge.outcome()[2]
        if result == challenges.PASSED and running.mode == challenges.PARTS:
            self._clock.witness(now)

        def write(session: Session) -> None:
            challenges.end(session, number, result, reason, records, now)

        self._unwritten = (write, bench.writer.post(write))
        self._running = None
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
        if running.mode == challenges.PARTS:
            bench.station.challenge(False)  # after the hold: no part of the production may slip in between
        if result == challenges.ABORTED and running.who == SCHEDULE:
            self._schedule_again()

    def _stand(self, active: ActiveRecipe | None) -> bool:
        """Hold the station by what the database says of this recipe; False if that is not known now.

        It counts after a restart, an override, and when a challenge is overdue. The caller has `_looking`.
        """
        bench = self._bench
        if self._running is not None or not self._is_written():
            return False
        try:
            with bench.writer.store.read() as session:
                failed = challenges.standing(session, bench.station_id)
                since = (
                    None if active is None else challenges.verified_since(session, bench.station_id, active.recipe_id)
                )
        except StoreError as error:
            log.warning("challenges cannot be read: %s", error)
            return False
        with self._lock:
            if self._running is not None or self._unwritten is not None:
                return False  # a challenge came in between: what was read is older than what it has shown
            self._hold_for(failed, since)
        return True

    def _hold_for(self, failed: ChallengeRun | None, since: datetime | None) -> None:
        station, alarms = self._bench.station, self._bench.station.alarms
        limit_s = self._config.every_h * 3600
        was_overdue = self._overdue
        self._overdue = overdue = bool(limit_s) and since is not None and self._clock.ago_s(since) > limit_s
        if failed is not None:
            alarms.up(ErrorCode.CHALLENGE_FAILED, f"challenge {failed.id} failed: {failed.reason}")
        else:
            alarms.down(ErrorCode.CHALLENGE_FAILED)
        if overdue:
            alarms.up(ErrorCode.CHALLENGE_OVERDUE, f"no challenge has passed since {since:%Y-%m-%d %H:%M} UTC")
            if not was_overdue and self._doubted is None:
                self._doubted = _Doubt(ErrorCode.CHALLENGE_OVERDUE, 0, challenges.PARTS)
        else:
            alarms.down(ErrorCode.CHALLENGE_OVERDUE)
        late = ErrorCode.CHALLENGE_OVERDUE if overdue and self._config.overdue_holds else ErrorCode.NONE
        station.hold(ErrorCode.CHALLENGE_FAILED if failed is not None else late)

    def _is_written(self) -> bool:
        """Whether the outcome of the last challenge is in the database; a write that failed is tried again."""
        with self._lock:
            if self._unwritten is None:
                return True
            write, done = self._unwritten
            if not done.done():
                return False
            self._unwritten = None if done.exception() is None else (write, self._bench.writer.post(write))
            return self._unwritten is None

    def _list_suspects(self) -> None:
        """Everything that was accepted since the last passed challenge is in doubt."""
        doubt = self._doubted
        if doubt is None:
            return
        try:
            with self._bench.writer.store.read() as session:
                rows = challenges.suspects(session, self._bench.station_id, doubt.mode)
        except StoreError as error:
            log.error("the parts in doubt cannot be listed: %s", error)
            return
        with self._lock:
            if self._doubted is doubt:  # else a challenge has failed since, and its parts are listed next
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


def _book_picture(running: _Running, answer: Answer, seen: Seen) -> None:
    """A verdict of a kept picture is its member's whose picture is shown, once; all others came too late for anything."""
    part, shown = answer.part, running.shown
    if shown is None or part.frame_id != shown.id or part.captured_monotonic_s < running.began_monotonic_s:
        return
    running.missed = _why_not_judged(answer, running.recipe_id)
    if not running.missed:
        running.challenge.book(shown, seen)
    running.answered.set()


def _why_not_judged(answer: Answer, recipe_id: int) -> str:
    """Why a verdict says nothing about the picture; empty if it does, be it that the picture cannot be scored."""
    if answer.active is not None and answer.active.recipe_id != recipe_id:
        return "the product was changed"
    if answer.verdict is not Verdict.NONE:
        return ""
    is_refusal = answer.active is None or answer.err in (ErrorCode.STORAGE, ErrorCode.DEADLINE_MISSED)
    return f"{answer.reason} ({answer.err:d})" if is_refusal else ""
