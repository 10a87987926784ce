"""The demo: a simulated line with everything real around it, and the books kept from three sides.

Starts a broker, a database, the worker, the dashboard and a virtual PLC on this machine, teaches the simulated kinds of
parts, and lets parts come by. What came out is counted by the PLC, by an independent MQTT subscriber and by SQL.
Joins store, contract and simulation; the programs are started as processes, never imported.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock, Timeout

from inspector import simulation
from inspector.config import DATA_DIR_VARIABLE, Config, load_config
from inspector.contract.broker import BrokerProcess, free_port, start_broker
from inspector.contract.tally import ResultTally
from inspector.contract.virtual_plc import VirtualPlc
from inspector.errors import InspectorError, StationError
from inspector.store import engine, products, queries, stations
from inspector.types import Verdict

DEFECT_RATE = 0.15
REFERENCES = 8
ENDLESS_PARTS_PER_PRODUCT = 60
READY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0
MARKER = ".inspector-demo"

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoPlan:
    """What to show: `parts` None goes on until stopped; `rate_hz` is parts per second."""

    parts: int | None
    seed: int
    rate_hz: float
    dashboard: bool
    mqtt_port: int = 0


@dataclass(frozen=True)
class DemoSummary:
    """The books of a finished demo; `parts` are the PLC's triggers."""

    parts: int
    ok: int
    ng: int
    undecided: int
    none: int
    published: int
    stored: int
    plc_accepted: int
    plc_rejected: int
    escapes: int
    false_rejects: int
    swaps: int
    latency_ms: dict[str, float]
    broker: str
    database: str
    encoder: str

    @property
    def faults(self) -> list[str]:
        """Where the books do not agree; empty if each part has exactly one verdict everywhere."""
        verdicts = self.ok + self.ng + self.undecided + self.none
        sums = {
            "published": self.published,
            "stored": self.stored,
            "ok + ng + undecided + none": verdicts,
            "accepted + rejected by the PLC": self.plc_accepted + self.plc_rejected,
        }
        return [f"{name} is {value}, but there were {self.parts} parts" for name, value in sums.items() if value != self.parts]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass
class Progress:
    """What the terminal shows while parts come by."""

    parts: int = 0
    counts: Counter[Verdict] = field(default_factory=Counter)
    accepted: int = 0
    escapes: int = 0
    false_rejects: int = 0
    product: str = ""
    latency_ms: float = 0.0
