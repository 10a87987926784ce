"""Numbers for Prometheus and for `inspector status`: how long each stage takes, and everything that the status row holds.

May import prometheus_client and the configuration. The inspection loop only counts (`timed`, microseconds); what is read from
the worker's parts is read when somebody asks. A fault here costs numbers, never a verdict.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.verdicts import Statement
from inspector.config import TelemetryConfig

log = logging.getLogger(__name__)

STAGES = ("camera", "waited", "scored", "committed", "published", "total")
"""From the exposure to the scoring; the batch's scoring; the commit; the handing over to MQTT; from the exposure to that."""
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
KEPT = 1000
"""Newest latencies that the quantiles of the status are taken from."""
GAUGES = {
    "boot": ("boot", "Starts of the worker, counted by the station"),
    "queue_length": ("queue", "Pictures that wait for the detector"),
    "in_flight": ("in_flight", "Parts that are owed a verdict"),
    "frame_age_seconds": ("frame_age_s", "Since the last new frame of any camera"),
    "heartbeat_age_seconds": ("heartbeat_age_s", "Since the inspection loop last came by"),
    "broker_connected": ("broker_connected", "1 while the broker is connected"),
    "outbox_messages": ("outbox", "Messages that the broker has not acknowledged"),
    "margin_seconds": ("margin_s", "What was left of `win` at the slowest verdict of the last five minutes"),
    "wal_bytes": ("wal_bytes", "Size of SQLite's write-ahead log"),
    "database_bytes": ("database_bytes", "Size of the SQLite file"),
    "disk_free_bytes": ("disk_free_bytes", "Free space where pictures and rows lie"),
    "disk_low": ("disk_low", "1 while pictures go because the disk is nearly full"),
    "ballast_held": ("ballast_held", "1 while the ballast file is there"),
    "drift_p_mean": ("drift_p_mean", "Mean p-value of the newest scores; about 0.5 while the line looks as it did"),
    "central_rows_behind": ("central_rows_behind", "Verdicts that the plant's central database lacks"),
    "central_behind_seconds": ("central_behind_s", "Since the central database last had everything; 0 while it has"),
    "state": ("st", "State of the station, as on the topic `state`"),
    "state_error": ("err", "Error of the station, as on the topic `state`"),
}
"""Metric: key of the status, what it is. A value that is not known is left out."""
COUNTERS = {
    "evicted": ("evicted", "Pictures that lost their place in the full queue"),
    "pictures_dropped": ("pictures_dropped", "Evidence pictures that could not be kept"),
    "pictures_removed": ("pictures_removed", "Verdicts whose pictures were taken away"),
    "receipts": ("receipts", "Receipts of the PLC"),
    "rejects_not_confirmed": ("rejects_not_confirmed", "Parts for which alarm 703 was raised"),
    "store_failures": ("store_failures", "Writes to the database that failed"),
    "central_copied": ("central_copied", "Verdicts copied to the central database"),
    "central_failures": ("central_failures", "Tries to copy that failed"),
    "housekeeping_replaced": ("housekeeping_replaced", "Schedulers of backups and clean-up that had died"),
}
CAMERA_COUNTERS = {
    "camera_frames": ("frames", "Frames of a camera"),
    "camera_gaps": ("gaps", "Triggers of a camera without a frame"),
    "camera_reconnects": ("reconnects", "Times that a camera was lost and connected again"),
}
PREFIX = "inspector_"

Status = Callable[[], Mapping[str, Any]]


class Telemetry:
    """The numbers of one worker. `status` gives what the status row holds, and may read the database."""

    def __init__(self, config: TelemetryConfig, status: Status) -> None:
        self.registry = CollectorRegistry()
        self._config = config
        self._errors: dict[int, int] = {}
        self._latencies_s: deque[float] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        text = "Time of a part or batch per stage"
        self._stages = Histogram(f"{PREFIX}stage_seconds", text, ["stage"], buckets=BUCKETS_S, registry=self.registry)
        self._observe = {stage: self._stages.labels(stage).observe for stage in STAGES}
        self.registry.register(_StatusCollector(status, self._error_counts))
        self._server: tuple[WSGIServer, threading.Thread] | None = None
        self.problem = ""

    @property
    def port(self) -> int:
        """Where it listens; 0 if it does not."""
        return 0 if self._server is None else int(self._server[0].server_port)

    def start(self) -> None:
        """Listen, if a port is configured. A port that is taken is told; the line runs without numbers."""
        if not self._config.port:
            return
        try:
            self._server = start_http_server(self._config.port, self._config.host, self.registry)
        except OSError as error:
            self.problem = (
                f"telemetry.port {self._config.port} cannot be used: {error.strerror}; no numbers for Prometheus"
            )
            log.error("%s", self.problem)

    def stop(self) -> None:
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join(5.0)
            self._server = None

    def timed(self, stage: str, took_s: float) -> None:
        """How long one stage took; called by the inspection loop."""
        self._observe[stage](took_s)
        if stage == "total":
            with self._lock:
                self._latencies_s.append(took_s)

    def seen(self, statement: Statement) -> None:
        """A verdict is out; called by the inspection loop."""
        answer = statement.answer
        for stage in ("camera", "waited", "scored"):
            if stage in answer.timings_ms:
                self._observe[stage](answer.timings_ms[stage] / 1000)
        if answer.err:
            with self._lock:
                self._errors[int(answer.err)] = self._errors.get(int(answer.err), 0) + 1

    def status(self) -> dict[str, Any]:
        """Quantiles of the newest latencies in ms, None before the first part; and what is wrong here."""
        with self._lock:
            newest = sorted(self._latencies_s)
        quantiles = {
            name: round(newest[min(len(newest) - 1, int(share * len(newest)))] * 1000, 1) if newest else None
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        }
        return {"latency_ms": quantiles | {"parts": len(newest)}, "telemetry_problem": self.problem}

    def _error_counts(self) -> dict[int, int]:
        with self._lock:
            return dict(self._errors)


class _StatusCollector(Collector):
    """The status as metrics, read anew at each scrape."""

    def __init__(self, status: Status, errors: Callable[[], Mapping[int, int]]) -> None:
        self._status = status
        self._errors = errors

    def describe(self) -> Iterable[Metric]:
        """Nothing is read when it is registered; the worker is not complete then."""
        return []

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        yield from _labelled("verdicts", "Verdicts since the start of the worker", "verdict", status.get("counts", {}))
        errors = {str(err): count for err, count in self._errors().items()}
        yield from _labelled("errors", "Parts without a verdict, by code", "err", errors)
        for name, (key, text) in GAUGES.items():
            if (value := status.get(key)) is not None:
                yield GaugeMetricFamily(f"{PREFIX}{name}", text, value=float(value))
        for name, (key, text) in COUNTERS.items():
            yield CounterMetricFamily(f"{PREFIX}{name}", text, value=float(status.get(key, 0)))
        cameras = status.get("cameras", {})
        for name, (key, text) in CAMERA_COUNTERS.items():
            yield from _labelled(name, text, "camera", {camera: one.get(key, 0) for camera, one in cameras.items()})
        working = GaugeMetricFamily(f"{PREFIX}camera_ok", "1 while a camera works", labels=["camera"])
        for camera, one in cameras.items():
            working.add_metric([camera], float(not one.get("problem")))
        yield working
        alarms = GaugeMetricFamily(f"{PREFIX}alarm", "1 for each alarm that is up", labels=["err", "source"])
        for alarm in status.get("alarms", ()):
            alarms.add_metric([str(alarm["err"]), str(alarm["src"])], 1.0)
        yield alarms


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Iterator[Metric]:
    family = CounterMetricFamily(f"{PREFIX}{name}", text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], float(count))
    yield family


def metric_names() -> list[str]:
    """Every metric by its name in Prometheus."""
    counters = ("verdicts", "errors", *COUNTERS, *CAMERA_COUNTERS)
    gauges = (*GAUGES, "camera_ok", "alarm", "stage_seconds")
    return sorted([*(f"{PREFIX}{name}_total" for name in counters), *(f"{PREFIX}{name}" for name in gauges)])
