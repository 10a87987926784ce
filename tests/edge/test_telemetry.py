"""The numbers are those of the worker, and asking for them disturbs nothing."""

import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.telemetry import STAGES, Telemetry, metric_names
from edge.verdicts import Statement, judge, refuse
from inspector.config import TelemetryConfig
from inspector.contract.broker import free_port
from inspector.contract.codes import ErrorCode
from tests.edge.detector_stub import active, inspection
from tests.edge.part_maker import part

STATUS: dict[str, Any] = {
    "boot": 7,
    "st": 7,
    "err": 204,
    "queue": 3,
    "in_flight": 4,
    "frame_age_s": 0.25,
    "heartbeat_age_s": 0.05,
    "broker_connected": True,
    "outbox": 12,
    "margin_s": 1.875,
    "wal_bytes": 4096,
    "database_bytes": 8192,
    "disk_free_bytes": 10**9,
    "disk_low": False,
    "ballast_held": True,
    "drift_p_mean": 0.5,
    "central_rows_behind": 14,
    "central_behind_s": 15.0,
    "central_copied": 16,
    "central_failures": 17,
    "counts": {"OK": 10, "NG": 2, "UNDECIDED": 1, "NONE": 0},
    "evicted": 5,
    "pictures_dropped": 6,
    "pictures_removed": 8,
    "store_failures": 9,
    "housekeeping_replaced": 1,
    "cameras": {
        "top": {"frames": 13, "gaps": 1, "reconnects": 2, "problem": ""},
        "side": {"frames": 0, "gaps": 0, "reconnects": 0, "problem": "unplugged"},
    },
    "alarms": [{"err": 204, "src": "drift", "txt": "light", "since": 1, "conf": 0}],
}


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry(TelemetryConfig(port=free_port()), lambda: STATUS)
    made.start()
    yield made
    made.stop()


def scrape(telemetry: Telemetry) -> dict[tuple[str, ...], float]:
    """Samples by name and label values, as a Prometheus server reads them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{telemetry.port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_everything_that_the_status_tells_is_a_metric(telemetry: Telemetry) -> None:
    found = scrape(telemetry)
    assert found["inspector_verdicts_total", "OK"] == 10
    assert found["inspector_queue_length",] == 3
    assert found["inspector_outbox_messages",] == 12
    assert found["inspector_broker_connected",] == 1
    assert found["inspector_ballast_held",] == 1
    assert found["inspector_wal_bytes",] == 4096
    assert found["inspector_margin_seconds",] == 1.875
    assert found["inspector_drift_p_mean",] == 0.5
    assert found["inspector_camera_reconnects_total", "top"] == 2
    assert (found["inspector_camera_ok", "top"], found["inspector_camera_ok", "side"]) == (1, 0)
    assert found["inspector_alarm", "204", "drift"] == 1
    assert found["inspector_evicted_total",] == 5
    assert found["inspector_central_rows_behind",] == 14
    assert found["inspector_central_behind_seconds",] == 15
    assert (found["inspector_central_copied_total",], found["inspector_central_failures_total",]) == (16, 17)


def test_each_metric_that_is_documented_is_there(telemetry: Telemetry) -> None:
    telemetry.seen(Statement(refuse(part(1), ErrorCode.DEADLINE_MISSED, "late"), 1, 1))
    telemetry.timed("total", 0.01)
    names = {name for name, *_ in scrape(telemetry)}
    for name in metric_names():
        assert name in names or f"{name}_bucket" in names, name


def test_stages_and_errors_are_counted(telemetry: Telemetry) -> None:
    answer = judge(part(1), inspection(0.2), active(), now_monotonic_s=0.0)
    answer.timings_ms.update(camera=1.0, waited=4.0, scored=20.0)
    telemetry.seen(Statement(answer, 1, 1))
    for number in (2, 3):
        telemetry.seen(Statement(refuse(part(number), ErrorCode.QUEUE_OVERFLOW, "full"), number, 1))
    telemetry.timed("committed", 0.002)
    found = scrape(telemetry)
    assert found["inspector_errors_total", "502"] == 2
    assert found["inspector_stage_seconds_sum", "scored"] == pytest.approx(0.02)
    assert found["inspector_stage_seconds_bucket", "0.0025", "waited"] == 0
    assert found["inspector_stage_seconds_bucket", "0.005", "waited"] == 1
    assert [found["inspector_stage_seconds_count", stage] for stage in STAGES] == [1, 1, 1, 1, 0, 0]


def test_quantiles_are_of_the_newest_parts(telemetry: Telemetry) -> None:
    assert telemetry.status()["latency_ms"] == {"p50": None, "p99": None, "max": None, "parts": 0}
    for number in range(2000):
        telemetry.timed("total", 9.0 if number < 1000 else (number - 999) / 1000)
    latency = telemetry.status()["latency_ms"]
    assert (latency["p50"], latency["p99"], latency["max"], latency["parts"]) == (501.0, 991.0, 1000.0, 1000)


def test_what_is_not_known_is_left_out_and_not_made_up() -> None:
    telemetry = Telemetry(TelemetryConfig(port=free_port()), lambda: STATUS | {"outbox": None, "drift_p_mean": None})
    telemetry.start()
    names = {name for name, *_ in scrape(telemetry)}
    telemetry.stop()
    assert not names & {"inspector_outbox_messages", "inspector_drift_p_mean"}


def test_a_station_without_a_central_database_has_no_numbers_of_it() -> None:
    status = {key: value for key, value in STATUS.items() if not key.startswith("central")}
    telemetry = Telemetry(TelemetryConfig(port=free_port()), lambda: status)
    telemetry.start()
    names = {name for name, *_ in scrape(telemetry)}
    telemetry.stop()
    assert not names & {"inspector_central_rows_behind", "inspector_central_behind_seconds"}


def test_it_is_off_by_default_and_a_port_that_is_taken_does_not_stop_the_line() -> None:
    off = Telemetry(TelemetryConfig(), lambda: STATUS)
    off.start()
    assert off.port == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        second = Telemetry(TelemetryConfig(port=taken.getsockname()[1]), lambda: STATUS)
        second.start()
    assert second.port == 0
    assert "cannot be used" in second.status()["telemetry_problem"]
    second.stop()
    off.stop()
