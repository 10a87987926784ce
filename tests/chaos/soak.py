"""`python -m tests.chaos.soak --minutes 30 --rate 20`: one line for long, with random faults, and what it does to its memory.

The first third has faults that end the worker; in the rest one worker process lives through all others, so that its memory
can be fitted by a line.
"""

import argparse
import json
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspector.config import EncoderConfig
from inspector.errors import InspectorError
from tests.brokers import wait_until
from tests.chaos import faults
from tests.chaos.rig import Plant, count, plant, taught

SAMPLE_S = 5.0
ENDING_SHARE = 1 / 3
MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """One look from outside: seconds since the start, worker's process, its memory with and without what is mapped from
    files (libraries), write-ahead log, data folder."""

    at_s: float
    pid: int
    rss_mib: float
    own_mib: float
    wal_mib: float
    data_mib: float


@dataclass(frozen=True)
class Strike:
    """A fault of the soak: what is done, for how long, what is done then."""

    name: str
    strike: Callable[[Plant], None]
    mend: Callable[[Plant], None] | None = None
    hold_s: float = 0.0


ENDING = (
    Strike("worker killed", faults.signal_worker(faults.signal.SIGKILL)),
    Strike("worker frozen", faults.signal_worker(faults.signal.SIGSTOP)),
)
PASSING = (
    Strike("broker killed", faults.kill_broker, faults.restart_broker, 5.0),
    Strike("broker frozen", lambda line: line.line.broker.freeze(), lambda line: line.line.broker.thaw(), 8.0),
    Strike("database locked", faults.lock_database, faults.put_right, 4.0),
    Strike("products swapped", faults.swap(6)),
    Strike("three times the rate", faults.hurry(3.0), faults.hurry(1 / 3), 10.0),
    Strike("clock an hour ahead", faults.set_clock(3600), faults.set_clock(0), 10.0),
    Strike("clock ten years back", faults.set_clock(-315_360_000), faults.set_clock(0), 10.0),
)


def sample(line: Plant, started_s: float) -> Sample | None:
    """None while no worker runs."""
    with suppress(OSError, InspectorError, StopIteration):
        pid = line.line.worker_pid
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        rss_kib, own_kib = (
            int(next(row for row in text.splitlines() if row.startswith(name)).split()[1])
            for name in ("VmRSS", "RssAnon")
        )
        folder = Path(line.line.values["data_dir"])
        wal = folder / "inspector.db-wal"
        sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
        at_s = time.monotonic() - started_s
        return Sample(
            at_s,
            pid,
            rss_kib / 1024,
            own_kib / 1024,
            wal.stat().st_size / MIB if wal.exists() else 0.0,
            sum(sizes) / MIB,
        )
    return None


def soak(line: Plant, minutes: float, every_s: float, chance: random.Random) -> tuple[list[Sample], list[str]]:
    """Let faults strike until the time is over; gives the samples and the faults."""
    started_s = time.monotonic()
    end_s = started_s + 60 * minutes
    samples: list[Sample] = []
    struck: list[str] = []
    next_s = started_s + every_s
    while time.monotonic() < end_s:
        time.sleep(SAMPLE_S)
        found = sample(line, started_s)
        samples += [found] if found else []
        if time.monotonic() < next_s:
            continue
        ending = time.monotonic() < started_s + ENDING_SHARE * 60 * minutes and len(struck) % 4 == 0
        fault = chance.choice(ENDING if ending else PASSING)
        struck.append(fault.name)
        fault.strike(line)
        time.sleep(fault.hold_s)
        if fault.mend is not None:
            fault.mend(line)
        line.wait_accepted(1, since_s=time.monotonic(), timeout_s=120)
        next_s = time.monotonic() + chance.uniform(0.5, 1.5) * every_s
        say(f"{(time.monotonic() - started_s) / 60:5.1f} min: {fault.name}; {len(line.decisions)} parts so far")
    return samples, struck


def memory(samples: list[Sample]) -> dict[str, float]:
    """The longest life of one process: hours, MiB at its first minute's end and at the last, slope in MiB per hour."""
    by_pid = {pid: [one for one in samples if one.pid == pid] for pid in {one.pid for one in samples}}
    longest = max(by_pid.values(), key=len)
    settled = [one for one in longest if one.at_s > longest[0].at_s + 60] or longest
    hours = np.array([one.at_s for one in settled]) / 3600
    mib = np.array([one.own_mib for one in settled])
    half = len(settled) // 2
    return {
        "hours": float(hours[-1] - hours[0]),
        "first_mib": float(mib[0]),
        "last_mib": float(mib[-1]),
        "max_mib": float(mib.max()),
        "max_with_libraries_mib": max(one.rss_mib for one in settled),
        "slope_mib_h": float(np.polyfit(hours, mib, 1)[0]) if len(settled) > 2 else float("nan"),
        "slope_second_half_mib_h": float(np.polyfit(hours[half:], mib[half:], 1)[0]) if half > 2 else float("nan"),
    }


def stages(line: Plant) -> dict[str, list[float]]:
    """p50, p99 and maximum, in ms, of the time of a scored part: by stage, whole, and without the model's own time."""
    rows = [row for row in line.line.rows() if row.score is not None and row.err == 0]
    scored = np.array([row.detail["timings_ms"]["scored"] for row in rows])
    waited = np.array([row.detail["timings_ms"]["waited"] for row in rows])
    camera = np.array([row.detail["timings_ms"]["camera"] for row in rows])
    total = np.array([row.latency_ms for row in rows])
    told = np.array([decision.latency_s * 1000 for _, decision in line.decisions if decision.result is not None])
    columns = {
        "exposure to picture (the camera)": camera,
        "picture to scoring": waited,
        "scoring (the model)": scored,
        "scored to committed": total - camera - waited - scored,
        "exposure to committed": total,
        "without camera and model": total - camera - scored,
        "PLC: trigger to verdict": told,
    }
    return {name: [float(x) for x in (*np.percentile(one, [50, 99]), one.max())] for name, one in columns.items()}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Exit code 1 if any row was lost or doubled, or a bad part accepted."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=20.0, help="parts per second")
    parser.add_argument(
        "--every", type=float, default=45.0, help="seconds between two faults, on average; 0 = no faults"
    )
    parser.add_argument(
        "--coarse", action="store_true", help="the embedded tower on 8x8 patches, for a machine that is busy"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    every_s = arguments.every or float("inf")
    values: dict[str, Any] = {"images": {"save": "all", "max_saved": 2000}}
    with tempfile.TemporaryDirectory(prefix="inspector-soak-") as folder:
        whole = None if arguments.coarse else EncoderConfig(threads=1)
        products = taught(Path(folder) / "data", whole)
        values |= {} if whole is None else {"encoder": {"threads": 1}}
        with plant(products, values, period_s=1 / arguments.rate, prepare=faults.own_clock) as line:
            samples, struck = soak(line, arguments.minutes, every_s, random.Random(arguments.seed))
            wait_until(lambda: line.plc.is_ready, 120)
            line.end()
            counts, latency = count(line), stages(line)
    found = {
        "counts": asdict(counts),
        "faults": struck,
        "memory": memory(samples),
        "latency_ms": latency,
        "wal_max_mib": max(one.wal_mib for one in samples),
        "data_mib": [samples[0].data_mib, samples[-1].data_mib],
    }
    say(json.dumps({name: value for name, value in found.items() if name != "latency_ms"}, indent=1))
    say(f"{'ms':32s} {'p50':>8s} {'p99':>8s} {'max':>8s}")
    for name, (p50, p99, most) in latency.items():
        say(f"{name:32s} {p50:8.1f} {p99:8.1f} {most:8.1f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found | {"samples": [asdict(one) for one in samples]}, indent=1) + "\n")
    sys.exit(1 if counts.lost or counts.doubled or counts.bad_accepted else 0)


if __name__ == "__main__":
    main()
