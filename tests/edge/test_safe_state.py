"""A wrong configuration is a safe state that says so, on a real broker: nothing passes and nothing is scored."""

import contextlib
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.inflight import InFlight
from edge.safe_state import SafeState, alarm_text, sound_config
from edge.station_lock import only_worker
from edge.supervisor import waits_for_a_person
from inspector.config import Config, MqttConfig
from inspector.contract.codes import AckCode, ErrorCode
from inspector.contract.messages import COMMANDS, Ack, Alarms, Heartbeat, State
from inspector.contract.topics import Topics
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc
from inspector.errors import ConfigError, StationError
from inspector.salvage import load_sound, salvage
from inspector.yaml_file import read_document
from tests.brokers import KINDS, TestBroker, Witness, wait_until

PREFIX = "test/line1"
TOPICS = Topics(PREFIX)
SECTIONS = [name for name in Config.model_fields if name not in ("data_dir", "cameras", "mqtt")]
UNKNOWN_KEY = [(f"{name}:\n  no_such_key: 1\n", f"{name}.no_such_key", 3) for name in SECTIONS]
FAULTS = [
    *UNKNOWN_KEY,
    ("cameras:\n  - {name: a}\n  - {nmae: b}\n", "cameras.1.nmae", 4),
    ("no_such_section: 1\n", "no_such_section", 2),
    # of the wrong type
    ("data_dir: [1]\n", "data_dir", 2),
    ("station:\n  name: [a]\n", "station.name", 3),
    ("encoder:\n  threads: many\n", "encoder.threads", 3),
    ("cameras: line\n", "cameras", 2),
    ("batching:\n  max_batch: eight\n", "batching.max_batch", 3),
    ("sparkplug:\n  enabled: 7\n", "sparkplug.enabled", 3),
    ("database:\n  url: 5\n", "database.url", 3),
    ("images: {save: some}\n", "images.save", 2),
    ("logging:\n  level: LOUD\n", "logging.level", 3),
    # out of range
    ("station:\n  name: a/b\n", "station.name", 3),
    ("cameras:\n  - name: a\n    period_s: 0\n", "cameras.0.period_s", 4),
    ("cameras:\n  - name: a\n  - name: a\n", "camera names must be unique", 1),
    ("challenge:\n  every_h: -1\n", "challenge.every_h", 3),
    ("disk:\n  ballast_mb: 0\n", "disk.ballast_mb", 3),
    ("supervisor:\n  hung_s: 0\n", "supervisor.hung_s", 3),
    ("dashboard:\n  port: 70000\n", "dashboard.port", 3),
    ("telemetry:\n  port: -1\n", "telemetry.port", 3),
    # a file that is not there
    ("encoder:\n  name: tower.json\n", "encoder.name: there is no file", 3),
    ("encoder:\n  pretrained: weights.pt\n", "encoder.pretrained: there is no file", 3),
    ("encoder:\n  adapters: a.safetensors\n", "encoder.adapters: there is no file", 3),
    ("sparkplug:\n  enabled: true\n  ca_file: ca.pem\n", "sparkplug.ca_file: there is no file", 4),
    ("cameras:\n  - kind: harvesters\n    producer: x.cti\n", "cameras.0.producer: there is no file", 4),
    # a key that stands twice
    ("disk: {ballast_mb: 9}\ndisk: {ballast_mb: 8}\n", "'disk' is set twice", 3),
]
FAULT = "disk:\n  no_such_key: 1\n"
BEYOND_HELP = [
    "mqtt: {prot: 1}\n",
    "mqtt: {port: no}\n",
    "mqtt: {prefix: a//b}\n",
    "mqtt: {password_file: missing}\n",
    "mqtt: {port: 1}\nmqtt: {port: 2}\n",
    "mqqt: {port: 1}\n",
    "- a list\n",
    "mqtt: {port: 1\n",
]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A station sets up the log of its process, which is that of the tests here."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestBroker]:
    monkeypatch.setenv("INSPECTOR_DATA_DIR", str(tmp_path / "data"))
    running = TestBroker(KINDS[0], tmp_path / "broker")
    yield running
    running.close()


@pytest.fixture
def witness(broker: TestBroker) -> Iterator[Witness]:
    made = Witness(broker.port)
    yield made
    made.close()


class Station:
    """A configuration file, and what waits for it to be right."""

    def __init__(self, folder: Path, broker: TestBroker) -> None:
        self.path = folder / "line.yaml"
        self.config: Config | None = None
        self.stopping = threading.Event()
        self._first_line = f"mqtt: {{port: {broker.port}, prefix: {PREFIX}, heartbeat_ms: 200}}\n"
        self._thread = threading.Thread(target=self._run)

    def write(self, fault: str) -> None:
        self.path.write_text(self._first_line + fault)

    @contextmanager
    def running(self, fault: str) -> Iterator["Station"]:
        self.write(fault)
        self._thread.start()
        try:
            yield self
        finally:
            self.stopping.set()
            self._thread.join()

    def _run(self) -> None:
        self.config = sound_config(self.path, self.stopping)


@pytest.fixture
def station(tmp_path: Path, broker: TestBroker) -> Station:
    return Station(tmp_path, broker)


def states(witness: Witness) -> list[State]:
    return [State.from_json(payload) for payload in witness.of(TOPICS.state)]


def alarm(witness: Witness) -> str:
    """The text of the only alarm that stands."""
    payloads = witness.of(TOPICS.alarm)
    return Alarms.from_json(payloads[-1]).alarms[0].txt if payloads else ""


@pytest.mark.parametrize(("fault", "key", "line"), FAULTS, ids=[f"{key}-{line}" for _, key, line in FAULTS])
def test_each_fault_is_told_with_its_line_and_leaves_the_broker_usable(
    tmp_path: Path, fault: str, key: str, line: int
) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(f"mqtt: {{port: 18830, prefix: {PREFIX}}}\n{fault}")
    with pytest.raises(ConfigError) as caught:
        load_sound(path)
    told = alarm_text(str(caught.value), path)
    assert told.startswith(f"line.yaml:{line}: ")
    assert key in told
    assert len(told) <= 120
    salvaged = salvage(read_document(path))
    assert salvaged is not None
    assert (salvaged.config.mqtt.port, salvaged.config.mqtt.prefix) == (18830, PREFIX)
    assert salvaged.client_id == ("test-line1-without-name" if "station" in key else "station1")


@pytest.mark.parametrize("text", BEYOND_HELP)
def test_without_sure_settings_of_the_broker_nothing_is_salvaged_and_the_error_is_said(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(text)
    with contextlib.suppress(ConfigError):  # not all of them are YAML
        assert salvage(read_document(path)) is None
    with pytest.raises(ConfigError, match=r"line\.yaml:"):
        sound_config(path, threading.Event())


def test_a_station_whose_name_is_beyond_doubt_speaks_under_it(tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    path.write_text("station: {name: line7, place: hall2}\nmqtt: {port: 18830}\n")
    salvaged = salvage(read_document(path))
    assert salvaged is not None
    assert salvaged.client_id == "line7"


def test_a_file_that_changes_while_it_is_looked_at_is_judged_and_salvaged_by_one_text(tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(f"mqtt: {{port: 18830, prefix: {PREFIX}}}\n{FAULT}")
    document = read_document(path)
    path.write_text("")
    with pytest.raises(ConfigError, match=r"line\.yaml:3: unknown key 'disk\.no_such_key'"):
        load_sound(document)
    salvaged = salvage(document)
    assert salvaged is not None
    assert salvaged.config.mqtt.port == 18830


def test_several_faults_are_counted_in_the_alarm(tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    path.write_text("images: {a: 1}\ndisk: {b: 1, c: 1}\n")
    with pytest.raises(ConfigError) as caught:
        load_sound(path)
    told = alarm_text(str(caught.value), path)
    assert told.startswith("line.yaml:1: unknown key 'images.a'")
    assert told.endswith(" (+2 more)")
    assert len(told) <= 120


@pytest.mark.slow
def test_whatever_is_wrong_the_plc_is_told_and_accepts_nothing_until_the_file_is_mended(
    station: Station, broker: TestBroker, witness: Witness
) -> None:
    settings = PlcSettings(timeout_s=1.0, allow_simulated=True)
    mqtt = MqttConfig(port=broker.port, prefix=PREFIX)
    with VirtualPlc(mqtt, settings, wanted_rcp=1) as plc, station.running(FAULT):
        for fault, key, line in FAULTS:
            station.write(fault)
            wait_until(lambda key=key, line=line: key in alarm(witness) and f"line.yaml:{line}:" in alarm(witness), 60)
            plc.trigger("part")
            assert not plc.is_ready
        wait_until(lambda: plc.state is not None and plc.state.st == 3, 60)
        plc.wait_decided()
        assert (plc.counts.triggers, plc.counts.accepted) == (len(FAULTS), 0)
        assert station.config is None
        station.write("disk: {ballast_mb: 9}\n")
        wait_until(lambda: station.config is not None, 60)
        assert station.config is not None
        assert station.config.disk.ballast_mb == 9
    said = states(witness)
    assert {(state.on, state.st, state.rcp, state.err) for state in said if state.on} == {(1, 3, 0, 901)}
    assert said[-1].on == 0
    beats = [Heartbeat.from_json(payload) for payload in witness.of(TOPICS.hb)]
    assert len(beats) > len(FAULTS)
    assert {beat.st for beat in beats} == {3}
    for kind in ("result", "last", "detail", "late", "recipe"):
        assert witness.of(TOPICS.of(kind)) == []


def test_each_command_is_refused_as_out_of_place_and_the_safe_state_goes_on(
    station: Station, broker: TestBroker, witness: Witness
) -> None:
    with station.running(FAULT):
        wait_until(lambda: states(witness), 60)
        extra = {"select_recipe": b',"rcp":1', "confirm": b',"alarm":901', "trigger": b',"trg":5'}
        for cid, name in enumerate(COMMANDS, 1):
            witness.publish(TOPICS.cmd(name), b'{"v":1,"cid":%d%s}' % (cid, extra.get(name, b"")))
        witness.publish(TOPICS.cmd("erase"), b'{"v":1,"cid":90}')
        witness.publish(TOPICS.cmd("start"), b"x")
        wait_until(lambda: len(witness.of(TOPICS.ack)) == len(COMMANDS) + 2, 60)
    acks = [Ack.from_json(payload) for payload in witness.of(TOPICS.ack)]
    wrong_state = [(cid, name, AckCode.WRONG_STATE) for cid, name in enumerate(COMMANDS, 1)]
    others = [(90, "erase", AckCode.UNKNOWN_COMMAND), (0, "start", AckCode.BAD_PAYLOAD)]
    assert [(ack.cid, ack.cmd, ack.code) for ack in acks] == wrong_state + others
    assert {(ack.st, ack.err) for ack in acks} == {(3, ErrorCode.CONFIGURATION)}


def test_state_and_alarm_are_retained_and_the_broker_is_told_again_after_an_outage(
    station: Station, broker: TestBroker
) -> None:
    with station.running(FAULT):
        first = Witness(broker.port, client_id="first")
        wait_until(lambda: states(first) and alarm(first), 60)
        first.close()
        late = Witness(broker.port, client_id="late")
        wait_until(lambda: states(late) and alarm(late), 60)
        assert {seen[2] for seen in late.messages if seen[0] in (TOPICS.state, TOPICS.alarm)} == {True}
        broker.kill()
        late.close()
        broker.restart()  # it keeps nothing
        again = Witness(broker.port, client_id="again")
        wait_until(lambda: states(again) and alarm(again), 60)
        again.close()


def test_its_boot_is_the_last_workers_so_that_the_next_one_is_newer(
    station: Station, witness: Witness, tmp_path: Path
) -> None:
    InFlight(tmp_path / "data" / "station1.inflight", boot=9)
    with station.running(FAULT):
        wait_until(lambda: states(witness), 60)
    assert {state.boot for state in states(witness)} == {9}


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_however_the_process_ends_the_plc_hears_that_the_station_is_offline(
    station: Station, witness: Witness, end: signal.Signals
) -> None:
    station.write(FAULT)
    worker = subprocess.Popen([sys.executable, "-m", "edge", "--config", str(station.path)], stderr=subprocess.PIPE)
    wait_until(lambda: states(witness), 60)
    worker.send_signal(end)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == (0 if end is signal.SIGTERM else -end)
    assert b"no_such_key" in said
    assert b"Traceback" not in said
    wait_until(lambda: states(witness)[-1].on == 0, 60)


def test_a_file_must_be_right_twice_for_one_that_is_being_written_may_be_right_for_a_moment(
    station: Station, broker: TestBroker
) -> None:
    station.write(FAULT)
    salvaged = salvage(read_document(station.path))
    assert salvaged is not None
    state = SafeState(station.path, salvaged, "a fault")
    station.path.write_text("")  # cut, and not yet written: every default
    assert not state._is_over()
    station.write("")
    assert not state._is_over()
    assert state._is_over()


def test_a_file_that_is_being_written_at_the_start_is_waited_for(station: Station, broker: TestBroker) -> None:
    station.path.write_text("")  # an editor has cut it, and will write it in a moment

    def write() -> None:
        time.sleep(0.05)
        station.write("disk: {ballast_mb: 7}\n")

    writer = threading.Thread(target=write)
    writer.start()
    config = sound_config(station.path, threading.Event())
    writer.join()
    assert config is not None
    assert (config.mqtt.port, config.disk.ballast_mb) == (broker.port, 7)


def test_a_wrong_file_that_names_another_place_must_say_so_twice_too(station: Station) -> None:
    station.write(FAULT)
    salvaged = salvage(read_document(station.path))
    assert salvaged is not None
    state = SafeState(station.path, salvaged, "a fault")
    elsewhere = station.path.read_text().replace(PREFIX, "test/line2")
    station.path.write_text(elsewhere)
    assert not state._is_over()
    station.write(FAULT)
    assert not state._is_over()
    station.path.write_text(elsewhere)
    assert not state._is_over()
    assert state._is_over()


def test_a_log_that_cannot_be_written_is_a_wrong_configuration_too(station: Station, witness: Witness) -> None:
    with station.running("logging:\n  file: /dev/null/line.log\n"):
        wait_until(lambda: alarm(witness), 60)
        assert alarm(witness).startswith("logging.file: /dev/null/line.log cannot be written")
        seen = len(states(witness))
        wait_until(lambda: len(witness.of(TOPICS.hb)) > 15, 60)  # three looks at the file
        assert {state.st for state in states(witness)[seen:]} <= {3}
        station.write(f"logging:\n  file: {station.path.with_suffix('.log')}\n")
        wait_until(lambda: station.config is not None, 60)
        assert "the configuration is right" in station.path.with_suffix(".log").read_text()


def test_while_it_waits_it_writes_into_the_log_that_is_named(station: Station) -> None:
    log = station.path.with_suffix(".log")
    with station.running(f"logging: {{file: {log}}}\n{FAULT}"):
        wait_until(lambda: log.exists() and "disk.no_such_key" in log.read_text(), 60)


def test_while_a_worker_runs_a_second_one_with_a_wrong_configuration_does_not_speak_for_the_station(
    station: Station, witness: Witness, tmp_path: Path
) -> None:
    station.write(FAULT)
    with only_worker(tmp_path / "data", "station1"), pytest.raises(StationError, match="another worker runs"):
        sound_config(station.path, station.stopping)
    assert witness.messages == []


def test_systemd_is_told_that_the_service_lives_and_what_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        waits_for_a_person()
        said = systemd.recv(1000).decode().splitlines()
    assert said[:2] == ["READY=1", "WATCHDOG=1"]
    assert "configuration is wrong" in said[2]
