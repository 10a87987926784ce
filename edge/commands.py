"""Commands to the station, over MQTT and from SQL: each runs once, and each is answered.

May import the contract, the store and `state`. One thread takes all commands in order; a product change is prepared in
a second one, so that triggers and pings are answered meanwhile. A trigger is answered once (code 0; its verdict is the
real answer), as is whatever is refused at once; every other command twice: accepted, then the final code. It begins before
the station is ready: what a station that starts cannot do is answered so, instead of being done later.
"""

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from edge.announcer import Announcer
from edge.capture import CaptureThread
from edge.mqtt import MqttLink, Received
from edge.state import ActiveRecipe, Station
from edge.verification import Verification
from inspector.contract.codes import AckCode, ErrorCode
from inspector.contract.messages import (
    COMMANDS,
    PART_LENGTH,
    Abort,
    ChallengeBegin,
    ChallengeEnd,
    CommandMessage,
    Confirm,
    Halt,
    RefusedCommand,
    Reset,
    SelectRecipe,
    Start,
    Stop,
    Sync,
    Trigger,
    read_command,
)
from inspector.errors import InspectorError, StoreError
from inspector.store import challenges, products, stations
from inspector.store import commands as command_rows
from inspector.store.engine import Store
from inspector.store.writer import StoreWriter

log = logging.getLogger(__name__)

POLL_S = 0.25
REMEMBERED, REMEMBERED_S = 1024, 600.0
"""So many commands of the PLC, for so long: one that comes again is answered again, and not carried out again."""
STALE_S = 60.0
"""A start or stop that has waited for longer, because no worker was there, is not carried out any more; nor is one that
is from the future by as much: the wall clock was set back, and nobody knows how long it has waited."""
KEEP_S = 0.2
"""A stop waits so long to be kept in the database before it is answered; one that is not kept by then is tried again."""


@dataclass(frozen=True, eq=False)
class Order:
    """A command on its way: who sent it, and its row in SQL if it came from there."""

    name: str
    message: CommandMessage
    source: str
    who: str
    row_id: int | None = None
    came_monotonic_s: float = field(default_factory=time.monotonic)

    @property
    def content(self) -> tuple[str, dict[str, Any]]:
        return self.name, self.message.model_dump(exclude={"v", "cid"}, exclude_none=True)


@dataclass
class _Memory:
    """What a cid was for, and its final code once there is one."""

    content: tuple[str, dict[str, Any]]
    came_monotonic_s: float
    code: AckCode | None = None


@dataclass(frozen=True, eq=False)
class CommandTargets:
    """What commands act on.

    `prepare` makes a recipe ready, or raises InspectorError; `approve` gives how many confirmed defects of its product it
    would let pass. A trigger whose part id is longer than `part_length` is refused. `wake` makes the inspection loop answer
    what it holds without waiting for more, `repeat_last` publishes `last` again.
    """

    station: Station
    station_id: int
    cameras: Sequence[CaptureThread]
    writer: StoreWriter
    prepare: Callable[[int], ActiveRecipe]
    approve: Callable[[ActiveRecipe], int]
    verification: Verification
    part_length: int = PART_LENGTH
    wake: Callable[[], None] = lambda: None
    repeat_last: Callable[[], None] = lambda: None


class CommandDesk:
    """The threads that carry out commands."""

    def __init__(self, link: MqttLink, announcer: Announcer, targets: CommandTargets) -> None:
        self._link = link
        self._announcer = announcer
        self._station = targets.station
        self._all_cameras = targets.cameras
        self._cameras = [camera for camera in targets.cameras if camera.triggered]
        self._writer = targets.writer
        self._store: Store = targets.writer.store
        self._station_id = targets.station_id
        self._targets = targets
        self._verification = targets.verification
        self._received = link.listen(Received)
        self._memory: OrderedDict[int, _Memory] = OrderedDict()
        self._changes: queue.Queue[tuple[Order, int] | None] = queue.Queue()
        self._is_changing = threading.Event()
        self._stopping = threading.Event()
        self._begun: dict[int, tuple[AckCode, Future[Any]] | None] = {}
        """Rows that are carried out, and their final code on its way into the database: until then they look pending."""
        self._kept = self._station.snapshot.stopped
        self._keeping: tuple[str, Future[Any]] | None = None
        self._threads = [
            threading.Thread(target=self._run, name="commands", daemon=True),
            threading.Thread(target=self._change_products, name="product-change", daemon=True),
        ]
        self.last_error = ""

    def start(self) -> None:
        self._recall()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads; may be called twice."""
        self._stopping.set()
        self._changes.put(None)
        for thread in self._threads:
            thread.join(5.0)

    def _run(self) -> None:
        poll_at = 0.0
        while not self._stopping.is_set():
            try:
                self._take_message()
                if time.monotonic() >= poll_at:
                    poll_at = time.monotonic() + POLL_S
                    self._keep_stop()
                    self._take_rows()
            except StoreError as error:
                log.warning("commands in the database cannot be read: %s", error)
            except Exception:  # a command must never end the thread that all commands depend on
                log.exception("a command failed in an unexpected way")

    def _take_message(self) -> None:
        try:
            event = self._received.get(timeout=POLL_S)
        except queue.Empty:
            return
        name = self._link.topics.command_name(event.topic)
        if name is None:
            return
        message = read_command(name, event.payload, retained=event.retained)
        if isinstance(message, RefusedCommand):
            log.warning("refused: %s", message.reason)
            self._announcer.answer(message.cid, name, message.code, event.received_monotonic_s)
            return
        order = Order(name, message, "mqtt", "plc", came_monotonic_s=event.received_monotonic_s)
        known = self._memory.get(message.cid)
        fresh_since_s = order.came_monotonic_s - REMEMBERED_S
        if known is not None and known.content == order.content and known.came_monotonic_s >= fresh_since_s:
            self._answer(order, AckCode.ACCEPTED if known.code is None else known.code)
            return
        self._memory[message.cid] = _Memory(order.content, order.came_monotonic_s)
        self._memory.move_to_end(message.cid)
        if len(self._memory) > REMEMBERED:
            self._memory.popitem(last=False)
        self._carry_out(order)

    def _take_rows(self) -> None:
        self._forget_written()
        with self._store.read() as session:
            rows = [row for row in command_rows.pending(session, self._station_id) if row.source != "mqtt"]
        if self._station.snapshot.starting:  # people may wait until it is there
            rows = [row for row in rows if row.name == "halt"]
        for row in rows:
            if row.id in self._begun:
                continue
            if self._stopping.is_set() or (row.name == "select_recipe" and self._is_changing.is_set()):
                return  # a product change from the pages waits for its turn
            age_s = (datetime.now(UTC) - row.created_at).total_seconds()
            model = COMMANDS.get(row.name)
            code = AckCode.UNKNOWN_COMMAND if model is None else None
            if model is not None and model is not SelectRecipe and abs(age_s) > STALE_S:
                code = AckCode.EXPIRED
            try:
                message = (model or CommandMessage).model_validate({"cid": row.cid, **(row.payload if model else {})})
            except ValidationError as error:
                log.warning("command %d of %s is wrong: %s", row.id, row.source, error)
                message, code = CommandMessage(cid=row.cid), AckCode.BAD_PAYLOAD
            order = Order(row.name, message, row.source, row.created_by or row.source, row_id=row.id)
            self._begun[row.id] = None
            if code is None:
                self._carry_out(order)
            else:
                self._finish(order, code)

    def _forget_written(self) -> None:
        """Of what is done: forget it once the database knows, and write it again if that failed."""
        for row_id, finished in list(self._begun.items()):
            if finished is None or not finished[1].done():
                continue
            code, written = finished
            if written.exception() is None:
                del self._begun[row_id]
            else:
                self._write_finish(row_id, code)

    def _write_finish(self, row_id: int, code: AckCode) -> None:
        now = datetime.now(UTC)
        written = self._writer.post(lambda session: command_rows.finish(session, row_id, int(code), now))
        self._begun[row_id] = code, written

    def _carry_out(self, order: Order) -> None:
        try:
            self._begin(order)
        except Exception as error:  # a command that fails must be answered, or the PLC waits for ever
            log.exception("command %s (cid %d) failed", order.name, order.message.cid)
            self.last_error = str(error)
            self._finish(order, AckCode.INTERNAL)

    def _begin(self, order: Order) -> None:
        message = order.message
        if isinstance(message, Trigger):
            self._finish(order, self._trigger(message, order.came_monotonic_s))
        elif isinstance(message, SelectRecipe):
            self._select(order, message)
        elif isinstance(message, Reset):
            self._answer(order, AckCode.ACCEPTED)
            self._reset(order)
        else:
            self._answer(order, AckCode.ACCEPTED)
            code = self._simple(message, order.who)
            self._keep_stop(KEEP_S)
            self._finish(order, code)

    def _simple(self, message: CommandMessage, who: str) -> AckCode:
        if isinstance(message, Start | Stop | Abort | Halt):
            return self._run_or_stop(message)
        if isinstance(message, Confirm):
            return AckCode.DONE if self._station.alarms.confirm(message.alarm) else AckCode.WRONG_STATE
        if isinstance(message, ChallengeBegin):
            return self._challenge(message, who)
        if isinstance(message, ChallengeEnd):
            return self._verification.end()
        if isinstance(message, Sync):
            self._announcer.say()
            self._targets.repeat_last()
        return AckCode.DONE

    def _run_or_stop(self, message: Start | Stop | Abort | Halt) -> AckCode:
        """A halt is obeyed in every state; the others need a product (a stop: or one to come), and a start no halt."""
        snapshot = self._station.snapshot
        may_stop = snapshot.active is not None or snapshot.starting
        may_start = snapshot.active is not None and not snapshot.halted
        if isinstance(message, Halt):
            self._station.halt()
        elif not (may_start if isinstance(message, Start) else may_stop):
            return AckCode.WRONG_STATE
        else:
            self._station.run(isinstance(message, Start))
        if isinstance(message, Start):
            return AckCode.DONE if snapshot.hold is ErrorCode.NONE else AckCode.VERIFICATION_PENDING
        for camera in self._all_cameras:
            camera.drop() if isinstance(message, Abort) else camera.leave()
        self._targets.wake()
        return AckCode.DONE

    def _reset(self, order: Order) -> None:
        """End a halt; what else holds the station goes with its cause alone, and a failed challenge with the next one."""
        self._station.reset()
        self._keep_stop(KEEP_S)
        snapshot = self._station.snapshot
        if snapshot.fault is not ErrorCode.NONE:
            log.error("a reset cannot end the fault %d; it goes with its cause", snapshot.fault)
            self._finish(order, AckCode.WRONG_STATE)
        elif snapshot.hold is not ErrorCode.NONE:
            self._finish(order, AckCode.VERIFICATION_PENDING)
        elif snapshot.active is None and snapshot.no_recipe is not ErrorCode.NO_RECIPE:
            self._load_again(order)
        else:
            self._finish(order, AckCode.DONE)

    def _load_again(self, order: Order) -> None:
        with self._store.read() as session:
            recipe = stations.active_recipe(session, self._station_id)
        if recipe is None or self._is_changing.is_set():
            self._finish(order, AckCode.BUSY if recipe is not None else AckCode.WRONG_STATE)
            return
        self._is_changing.set()
        self._station.prepare()
        self._changes.put((order, recipe.id))

    def _challenge(self, message: ChallengeBegin, who: str) -> AckCode:
        if self._station.snapshot.starting:
            return AckCode.WRONG_STATE
        mode = challenges.PICTURES if message.pic else challenges.PARTS
        try:
            code = self._verification.begin(message.set, mode, who)
        except InspectorError as error:
            log.error("the challenge cannot begin: %s", error)
            self.last_error = str(error)
            return AckCode.INTERNAL
        self.last_error = self._verification.problem or self.last_error
        return code

    def _trigger(self, message: Trigger, came_monotonic_s: float) -> AckCode:
        if not self._cameras:
            return AckCode.WRONG_STATE
        if self._station.snapshot.starting:  # a picture that is taken once it is ready would show another part
            for camera in self._cameras:
                camera.refuse(message.trg, message.part, ErrorCode.ABORTED)
            return AckCode.WRONG_STATE
        if len(message.part) > self._targets.part_length:
            self.last_error = (
                f"trigger {message.trg} is refused: its part id has more than the {self._targets.part_length} "
                f"characters for which resultb has room ({message.part!r}); use shorter ids or switch mqtt.resultb off"
            )
            log.error("%s", self.last_error)
            for camera in self._cameras:
                camera.refuse(message.trg, message.part, ErrorCode.PART_ID_TOO_LONG)
            return AckCode.BAD_PAYLOAD
        code = AckCode.DONE
        for camera in self._cameras:
            if not camera.trigger(message.trg, message.part, came_monotonic_s):
                code = AckCode.BUSY
        return code

    def _select(self, order: Order, message: SelectRecipe) -> None:
        if self._station.snapshot.starting or self._is_changing.is_set() or self._verification.running:
            self._finish(order, AckCode.BUSY)
            return
        with self._store.read() as session:
            recipe = products.find_recipe(session, message.rcp, message.rev)
        if recipe is None:
            self._finish(order, AckCode.UNKNOWN_RECIPE)
            return
        if escapes := products.escapes_of(recipe):
            log.warning("revision %d is not approved: %d confirmed defects would pass", recipe.rev, len(escapes))
            self._finish(order, AckCode.NOT_APPROVED)
            return
        self._is_changing.set()
        self._station.prepare()
        for camera in self._all_cameras:
            camera.leave()
        self._answer(order, AckCode.ACCEPTED)
        self._changes.put((order, recipe.id))

    def _change_products(self) -> None:
        while (change := self._changes.get()) is not None:
            order, recipe_id = change
            try:
                code = self._change_product(order, recipe_id)
            except Exception as error:  # whatever it is, the old product must go on and the PLC must hear of it
                log.exception("the product change failed in an unexpected way")
                self.last_error, code = str(error), AckCode.INTERNAL
                self._station.abandon()
            self._finish(order, code)
            self._is_changing.clear()

    def _change_product(self, order: Order, recipe_id: int) -> AckCode:
        try:
            active = self._targets.prepare(recipe_id)
            if escapes := self._targets.approve(active):
                self.last_error = f"{active.name} revision {active.rev} would let {escapes} confirmed defects pass"
                log.error("%s", self.last_error)
                self._station.abandon()
                return AckCode.NOT_APPROVED
            now = datetime.now(UTC)

            def store(session: Session) -> None:
                stations.set_active_recipe(session, self._station_id, recipe_id, order.who, now)

            self._writer.call(store)
        except InspectorError as error:
            log.error("the product stays as it was: %s", error)
            self.last_error = str(error)
            self._station.abandon()
            return AckCode.PREPARE_FAILED
        self._verification.take_over(active, lambda: self._station.activate(active), now)
        log.info("product %s revision %d is active, asked for by %s", active.name, active.rev, order.who)
        return AckCode.DONE

    def _answer(self, order: Order, code: AckCode) -> None:
        if order.source == "mqtt":
            self._announcer.answer(order.message.cid, order.name, code, order.came_monotonic_s)

    def _finish(self, order: Order, code: AckCode) -> None:
        """The final code: to the PLC, and into the command's row."""
        self._answer(order, code)
        if order.row_id is not None:
            self._write_finish(order.row_id, code)
            return
        now = datetime.now(UTC)
        known = self._memory.get(order.message.cid)
        if known is not None:
            known.code = code
        name, payload = order.content
        if name not in ("trigger", "ping"):
            cid = order.message.cid
            self._writer.post(
                lambda session: command_rows.note(
                    session, self._station_id, cid=cid, name=name, payload=payload, code=int(code), now=now
                )
            )

    def _recall(self) -> None:
        """What the PLC was answered before a restart: it may ask again."""
        now, now_monotonic_s = datetime.now(UTC), time.monotonic()
        with self._store.read() as session:
            rows = command_rows.newest(session, self._station_id, "mqtt", REMEMBERED)
        for row in rows:
            age_s = max(0.0, (now - row.created_at).total_seconds())
            known = _Memory((row.name, row.payload), now_monotonic_s - age_s, AckCode(row.code or 0))
            self._memory[row.cid] = known

    def _keep_stop(self, wait_s: float = 0.0) -> None:
        """Bring what the station was told into the database, so that a restart does not put it into production."""
        if self._keeping is not None:
            stopped, done = self._keeping
            if not done.done():
                return
            self._keeping = None
            if done.exception() is None:
                self._kept = stopped
            else:
                log.error("that the station is %s cannot be kept: %s", stopped or "running", done.exception())
        stopped = self._station.snapshot.stopped
        if stopped != self._kept:
            done = self._writer.post(lambda session: stations.set_stopped(session, self._station_id, stopped))
            self._keeping = stopped, done
            wait([done], wait_s)
