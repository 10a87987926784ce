"""The publisher with a real broker: nothing old on `result`, nothing lost, whatever happens to broker and store."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge.mqtt import MqttLink, Token
from edge.outbox import StationOutbox
from edge.publisher import LiveVerdict, OutboxMessage, Publisher
from inspector.config import Config
from inspector.contract.codes import Flag
from inspector.contract.messages import Detail, Result, State
from inspector.errors import StoreError
from inspector.store import engine, journal, queries, stations
from inspector.store.writer import StoreWriter
from tests.brokers import KINDS, TestBroker, Witness, wait_until
from tests.store.test_store import record as verdict_record

STATE = State(on=1, st=7, mode=0, boot=1, rcp=1, rev=1, err=0, win=500, hbp=1000, ts=5)
WINDOW_S = 0.5


def detail_of(seq: int) -> str:
    """The smallest detail of a verdict."""
    values = {"boot": 1, "trg": seq, "frame": seq, "res": 1, "err": 0, "flg": 0, "rcp": 1, "rev": 1}
    return Detail(camera="line", seq=seq, score=None, threshold=None, **values).to_json().decode()


class SqlOutbox(StationOutbox):
    """The outbox of a real database, which can be slow, locked, or come by a new verdict just when it has deleted some."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'outbox.db'}"
        engine.upgrade(url)
        self._store = engine.open_store(url)
        writer = StoreWriter(self._store)
        writer.start()
        super().__init__(writer, writer.call(lambda session: stations.ensure_station(session, "s").id))
        self.locked = False
        self.slow_s = 0.0
        self.reads = 0
        self.after_clearing: Callable[[], object] = lambda: None

    def commit(self, result: Result) -> int:
        """Write a verdict with its two messages; gives the id of its `result` message."""
        messages = (("result", result.to_json().decode()), ("detail", detail_of(result.seq)))
        record = verdict_record(result.seq, messages=messages, regions=())
        [committed] = self.writer.call(lambda session: journal.commit_verdicts(session, self.station_id, [record]))
        row_id: int = committed.outbox_ids[0]
        return row_id

    def pending(self, limit: int) -> Sequence[OutboxMessage]:
        self._check()
        self.reads += 1
        return super().pending(limit)

    def clear(self, ids: Sequence[int]) -> None:
        self._check()
        super().clear(ids)
        self.after_clearing()

    def __len__(self) -> int:
        with self._store.read() as session:
            return queries.outbox_size(session, self.station_id)

    def close(self) -> None:
        self.writer.stop()
        self._store.close()

    def _check(self) -> None:
        time.sleep(self.slow_s)
        if self.locked:
            raise StoreError("database is locked")


class RecordingLink(MqttLink):
    """Writes down what was really handed to the connection, and when."""

    def __init__(self, config: Config, state: State) -> None:
        super().__init__(config, state)
        self.sent: list[tuple[str, bytes, float]] = []

    def publish(self, topic: str, payload: bytes, **options: Any) -> Token | None:
        token = super().publish(topic, payload, **options)
        if token is not None:
            self.sent.append((topic, payload, time.monotonic()))
        return token


class Line:
    """Publisher, link, outbox, witness: what a test needs to let verdicts happen."""

    def __init__(self, broker: TestBroker, folder: Path) -> None:
        mqtt = {"port": broker.port, "window_ms": int(WINDOW_S * 1000), "keepalive_s": 2}
        config = Config.model_validate({"mqtt": mqtt})
        self.outbox = SqlOutbox(folder)
        self.link = RecordingLink(config, STATE)
        self.publisher = Publisher(config.mqtt, self.link, self.outbox)
        self.witness = Witness(broker.port)
        self.captured: dict[int, float] = {}
        self.committed: dict[int, LiveVerdict] = {}
        self.seq = 0

    def start(self) -> "Line":
        self.publisher.start()
        self.link.start()
        wait_until(lambda: self.link.is_connected)
        return self

    def verdict(self, *, age_s: float = 0.0, publish: bool = True) -> int:
        self.seq += 1
        result = Result(
            boot=1, seq=self.seq, trg=self.seq, res=1, err=0, flg=0, rcp=1, rev=1, scr=1, roi=0, lat=0, ts=1, ms=0
        )
        row_id = self.outbox.commit(result)
        self.captured[self.seq] = time.monotonic() - age_s
        self.committed[self.seq] = LiveVerdict(result, row_id, self.captured[self.seq])
        if publish:
            self.hand_over(self.seq)
        return self.seq

    def hand_over(self, seq: int) -> None:
        """Publish a committed verdict."""
        self.publisher.publish_live(self.committed[seq])

    def seqs(self, kind: str) -> list[int]:
        return [Result.from_json(payload).seq for payload in self.witness.of(self.link.topics.of(kind))]

    def details(self) -> list[bytes]:
        return self.witness.of(self.link.topics.detail)

    def oldest_on_result_s(self) -> float:
        """Age of the oldest verdict when it was sent on `result`."""
        topic = self.link.topics.result
        sent = [(Result.from_json(payload).seq, at) for name, payload, at in self.link.sent if name == topic]
        return max((at - self.captured[seq] for seq, at in sent), default=0.0)

    def close(self) -> None:
        self.publisher.stop(0.2)
        self.link.stop()
        self.witness.close()
        self.outbox.close()


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBroker]:
    running = TestBroker(request.param, tmp_path)
    yield running
    running.close()


@pytest.fixture
def line(broker: TestBroker, tmp_path: Path) -> Iterator[Line]:
    made = Line(broker, tmp_path)
    yield made
    made.close()


def test_each_verdict_is_sent_once_and_its_rows_are_cleared(line: Line) -> None:
    line.start()
    for _ in range(50):
        line.verdict()
        time.sleep(0.002)

    wait_until(lambda: len(line.outbox) == 0)
    wait_until(lambda: len(line.details()) == 50)
    assert line.seqs("result") == list(range(1, 51))
    assert line.details() == [detail_of(n).encode() for n in range(1, 51)]
    assert line.seqs("late") == []
    assert not any(retained for name, _, retained, _ in line.witness.messages if name == line.link.topics.result)


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_a_verdict_that_comes_just_when_others_were_deleted_is_sent_as_any_other(line: Line) -> None:
    line.outbox.after_clearing = lambda: line.verdict() if line.seq < 20 and not len(line.outbox) else None
    line.start()
    line.verdict()
    wait_until(lambda: line.seq == 20)
    wait_until(lambda: len(line.outbox) == 0)
    wait_until(lambda: len(line.details()) == 20)  # the broker may answer us before it tells others
    assert line.seqs("result") == list(range(1, 21))
    assert line.seqs("late") == []


def test_the_last_verdict_is_retained_for_the_hmi_and_never_on_result(line: Line, broker: TestBroker) -> None:
    line.start()
    line.verdict()
    wait_until(lambda: len(line.outbox) == 0)

    newcomer = Witness(broker.port)
    wait_until(lambda: newcomer.of(line.link.topics.last))
    assert newcomer.of(line.link.topics.result) == []
    newcomer.close()


def test_a_verdict_older_than_the_window_goes_to_late_only_and_is_marked(line: Line) -> None:
    line.start()
    line.verdict(age_s=WINDOW_S + 0.1)
    wait_until(lambda: len(line.outbox) == 0)

    wait_until(lambda: line.witness.of(line.link.topics.late))  # the broker may answer us before it tells others
    assert line.seqs("result") == []
    [payload] = line.witness.of(line.link.topics.late)
    told = Result.from_json(payload)
    assert (told.flg, told.lat) == (Flag.LATE, 65_535), "it was seen in 1970"


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_verdicts_of_a_worker_that_died_before_it_published_go_to_late(line: Line) -> None:
    for _ in range(30):
        line.verdict(publish=False)
    line.start()
    wait_until(lambda: len(line.outbox) == 0)

    assert line.seqs("result") == []
    assert line.seqs("late") == list(range(1, 31))


def run_line(line: Line, seconds: float, stop: Callable[[], bool] = lambda: False) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stop():
        line.verdict()
        time.sleep(0.01)


def test_broker_killed_and_restarted_loses_nothing_and_sends_nothing_stale(line: Line, broker: TestBroker) -> None:
    line.start()
    run_line(line, 0.5)
    broker.kill()
    run_line(line, 2.0)
    broker.restart()
    run_line(line, 60, stop=lambda: line.link.connections >= 2 and line.witness.subscriptions >= 2)
    run_line(line, 0.5)
    wait_until(lambda: len(line.outbox) == 0)

    assert line.publisher.counts.live_expired > 50
    assert line.oldest_on_result_s() <= WINDOW_S + 0.05  # the test looks at its clock after the link did
    acknowledged = line.publisher.counts.live_acknowledged + line.publisher.counts.record_acknowledged
    assert acknowledged == 2 * line.seq


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_a_broker_that_freezes_and_thaws_gets_no_stale_verdict_from_us(line: Line, broker: TestBroker) -> None:
    line.start()
    run_line(line, 0.3)
    broker.freeze()
    sent_before_s = time.monotonic()
    run_line(line, 60, stop=lambda: not line.link.is_connected)
    frozen_for_s = time.monotonic() - sent_before_s
    broker.thaw()
    run_line(line, 60, stop=lambda: line.link.connections >= 2)
    run_line(line, 0.5)
    wait_until(lambda: len(line.outbox) == 0)

    assert frozen_for_s < 6.0
    assert line.oldest_on_result_s() <= WINDOW_S + 0.05
    assert line.publisher.counts.live_expired > 0


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_a_locked_store_delays_no_live_verdict_and_is_cleared_in_the_end(line: Line) -> None:
    line.start()
    line.outbox.slow_s, line.outbox.locked = 0.3, True
    run_line(line, 1.5)
    wait_until(lambda: len(line.seqs("result")) == line.seq, timeout_s=1.0)
    assert line.oldest_on_result_s() < 0.2
    assert len(line.outbox) == 2 * line.seq
    assert line.publisher.store_failures > 0

    line.outbox.slow_s, line.outbox.locked = 0.0, False
    wait_until(lambda: len(line.outbox) == 0)
    assert sorted(line.seqs("result")) == list(range(1, line.seq + 1))
    assert line.seqs("late") == []


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_publish_live_does_not_wait_for_anything(line: Line, broker: TestBroker) -> None:
    line.start()
    line.outbox.slow_s = 0.5
    broker.freeze()
    verdicts = [line.verdict(publish=False) for _ in range(500)]
    started = time.perf_counter()
    for seq in verdicts:
        line.hand_over(seq)
    took_s = time.perf_counter() - started
    broker.thaw()

    assert took_s < 0.5


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_stop_sends_what_it_can_and_leaves_the_rest_in_the_outbox(line: Line, broker: TestBroker) -> None:
    line.start()
    for _ in range(20):
        line.verdict()
    line.publisher.stop(5.0)
    assert len(line.outbox) == 0
    wait_until(lambda: line.seqs("result") == list(range(1, 21)))


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_stop_without_a_broker_is_quick_and_keeps_the_rows(line: Line, broker: TestBroker) -> None:
    line.start()
    broker.kill()
    wait_until(lambda: not line.link.is_connected)
    line.verdict()
    started = time.monotonic()
    line.publisher.stop(5.0)

    assert time.monotonic() - started < 2.0
    assert len(line.outbox) == 2
