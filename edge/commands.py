"""One executor for all commands, from MQTT and from SQL (dashboard, command line), each run once.

Its thread also says the station's state: at once after a change, every ten seconds, and on each new connection.
"""

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from edge.cameras import TriggerQueue
from edge.capture import Capture
from edge.mqtt import Connected, MqttLink, Received
from edge.state import StationControl
from edge.swap import RecipeSwap
from inspector.contract.codes import AckCode, ErrorCode
from inspector.contract.messages import (
    U32_MAX,
    Ack,
    CommandMessage,
    RefusedCommand,
    SelectRecipe,
    Trigger,
    read_command,
    saturate,
)
from inspector.errors import InspectorError, StoreError
from inspector.store import commands
from inspector.store.writer import StoreWriter

TICK_S = 0.05
SQL_PERIOD_S = 0.25
STATE_PERIOD_S = 10.0
REMEMBERED_TRIGGERS = 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TriggeredCamera:
    """A camera that waits for `cmd/trigger`."""

    triggers: TriggerQueue
    capture: Capture


class CommandLoop:
    """Runs commands, answers them, and keeps `state` and `recipe` current at the broker."""

    def __init__(
        self,
        station_id: int,
        control: StationControl,
        link: MqttLink,
        writer: StoreWriter,
        swap: RecipeSwap,
        cameras: list[TriggeredCamera],
    ) -> None:
        self._station_id = station_id
        self._control = control
        self._link = link
        self._writer = writer
        self._swap = swap
        self._cameras = cameras
        self._events: queue.Queue[Connected | Received] = link.listen(Connected, Received)
        self._state_is_due = threading.Event()
        control.on_change = self._state_is_due.set
        self._trigger_cids: OrderedDict[int, int] = OrderedDict()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)
        self._last_state_s = 0.0
        self._last_sql_s = 0.0
        self._actions: Mapping[str, Callable[[dict[str, Any], str], AckCode]] = {
            "select_recipe": self._select_recipe,
            "start": lambda _, __: AckCode.DONE if self._control.start() else AckCode.WRONG_STATE,
            "stop": self._stop_station,
            "sync": self._sync,
            "ping": lambda _, __: AckCode.DONE,
        }

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except StoreError as error:
                log.warning("commands wait for the database: %s", error)
                self._stopping.wait(0.5)
            except Exception:  # one bad command must not end all commands
                log.exception("a command failed")

    def _turn(self) -> None:
        now = time.monotonic()
        if self._state_is_due.is_set() or now - self._last_state_s > STATE_PERIOD_S:
            self._say_state()
        try:
            event = self._events.get(timeout=TICK_S)
        except queue.Empty:
            event = None
        if isinstance(event, Connected):
            self._say_state()
        elif isinstance(event, Received):
            self._take_message(event)
        if now - self._last_sql_s > SQL_PERIOD_S:
            self._last_sql_s = now
            self._take_rows()

    def _say_state(self) -> None:
        self._state_is_due.clear()
        self._last_state_s = time.monotonic()
        topics = self._link.topics
        self._link.publish(topics.state, self._control.message().to_json(), qos=1, retain=True)
        active = self._control.snapshot().active
        if active is not None:
            self._link.publish(topics.recipe, active.message().to_json(), qos=1, retain=True)

    def _take_message(self, event: Received) -> None:
        name = self._link.topics.command_name(event.topic)
        if name is None:
            return
        came_s = time.monotonic()
        command = read_command(name, event.payload, retained=event.retained)
        if isinstance(command, RefusedCommand):
            log.warning("command %s refused: %s", name, command.reason)
            self._acknowledge(command.cid, name, command.code, came_s)
        elif isinstance(command, Trigger):
            self._trigger(command, came_s)
        else:
            self._run_message(name, command, came_s)

    def _trigger(self, command: Trigger, came_s: float) -> None:
        """A trigger is no row: it is answered by its verdict, and must not wait for the database."""
        if command.cid in self._trigger_cids:
            self._acknowledge(command.cid, "trigger", AckCode.DUPLICATE, came_s)
            return
        self._trigger_cids[command.cid] = command.trg
        if len(self._trigger_cids) > REMEMBERED_TRIGGERS:
            self._trigger_cids.popitem(last=False)
        for camera in self._cameras:
            if not camera.triggers.put(command.trg, command.part):
                camera.capture.gaps.overrun(command.trg, command.part)
        code = AckCode.DONE if self._cameras else AckCode.WRONG_STATE
        self._acknowledge(command.cid, "trigger", code, came_s)

    def _run_message(self, name: str, command: CommandMessage, came_s: float) -> None:
        payload = command.model_dump(mode="json", exclude={"v", "cid"}, exclude_none=True)
        row = self._writer.call(
            lambda session: commands.submit(
                session,
                self._station_id,
                source="mqtt",
                cid=command.cid,
                name=name,
                payload=payload,
                who="plc",
                now=datetime.now(UTC),
            )
        )
        if row.status == "done" and row.code is not None:
            self._acknowledge(command.cid, name, AckCode(row.code), came_s)
            return
        self._acknowledge(command.cid, name, AckCode.ACCEPTED, came_s)
        code = self._execute(name, payload, "plc")
        self._finish(row.id, code)
        self._acknowledge(command.cid, name, code, came_s)

    def _take_rows(self) -> None:
        """Commands of the dashboard and the command line."""
        with self._writer.store.read() as session:
            rows = [row for row in commands.pending(session, self._station_id) if row.source != "mqtt"]
        for row in rows:
            self._finish(row.id, self._execute(row.name, row.payload, row.created_by or row.source))

    def _execute(self, name: str, payload: dict[str, Any], who: str) -> AckCode:
        action = self._actions.get(name)
        if action is None:
            return AckCode.UNKNOWN_COMMAND
        try:
            code = action(payload, who)
        except InspectorError as error:
            log.error("command %s failed: %s", name, error)
            code = AckCode.INTERNAL
        if self._state_is_due.is_set():
            self._say_state()  # before the final answer, which says that it is so
        return code

    def _finish(self, command_id: int, code: AckCode) -> None:
        self._writer.call(lambda session: commands.finish(session, command_id, int(code), datetime.now(UTC)))

    def _acknowledge(self, cid: int, name: str, code: AckCode, came_s: float) -> None:
        ack = Ack(
            cid=cid,
            cmd="".join(letter for letter in name if letter.isalnum() or letter == "_")[:32],
            code=int(code),
            st=int(self._control.snapshot().state),
            err=int(self._control.err),
            lat=saturate((time.monotonic() - came_s) * 1000, U32_MAX),
        )
        self._link.publish(self._link.topics.ack, ack.to_json(), qos=1)

    def _select_recipe(self, payload: dict[str, Any], who: str) -> AckCode:
        wanted = SelectRecipe(cid=0, rcp=payload["rcp"], rev=payload.get("rev"))
        return self._swap.select(wanted.rcp, wanted.rev, who, before=self._begin_swap)

    def _begin_swap(self) -> None:
        """Tell the PLC, and give up triggers that wait: their parts belong to the product before."""
        for camera in self._cameras:
            for trigger in camera.triggers.drain():
                camera.capture.gaps.overrun(trigger.trg, trigger.part_id, ErrorCode.ABORTED)
        self._say_state()

    def _stop_station(self, _: dict[str, Any], __: str) -> AckCode:
        self._control.stop()
        return AckCode.DONE

    def _sync(self, _: dict[str, Any], __: str) -> AckCode:
        self._say_state()
        return AckCode.DONE
