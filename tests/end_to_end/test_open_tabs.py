"""A hundred open tabs: the worker and the pages share the machine, and the line does not notice."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inspector.contract.broker import free_port
from inspector.contract.codes import ErrorCode
from tests.brokers import wait_until
from tests.browser import served
from tests.end_to_end.plant import Line, parts_come_by, seconds, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TABS = int(seconds("INSPECTOR_OPEN_TABS", 100))
WATCHED_S = seconds("INSPECTOR_OPEN_TABS_S", 30.0)
OPENED_S = 240.0


@contextmanager
def opened(address: str, count: int) -> Iterator[Counter[str]]:
    """Tabs in a process of their own; what they were given so far."""
    seen: Counter[str] = Counter()
    command = [sys.executable, "-m", "tests.tabs", address, str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def listen() -> None:
        for line in process.stdout or ():
            seen.update(Counter(json.loads(line)) - seen)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield seen
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
        listener.join()
    assert process.returncode == 0


def test_a_hundred_open_tabs_change_no_verdict(line: Line, tmp_path: Path) -> None:
    line.values["dashboard"] = {"port": free_port()}
    line.values["images"] = {"save": "all"}
    with (
        served(line.config, line.config_path, tmp_path / "dashboard.log") as address,
        line.plc("flange", timeout_s=20.0) as plc,
    ):
        worker = started(line, plc)
        with parts_come_by(plc, "flange"), opened(address, TABS) as seen:
            wait_until(lambda: seen["tabs"] == TABS, OPENED_S)
            before, drawn = plc.counts.triggers, seen["drawn"]
            threading.Event().wait(WATCHED_S)
            watched, renewed = plc.counts.triggers - before, seen["drawn"] - drawn
            lost = seen["lost"]
        plc.wait_decided(60)
        counts = plc.counts
        assert worker.poll() is None
    line.stop(worker)
    rows = line.rows()

    assert Counter(row.trg for row in rows) == Counter(range(1, counts.triggers + 1)), line.log[-3000:]
    assert counts.triggers == counts.accepted + counts.rejected
    assert counts.missing == 0
    assert watched > 10
    assert renewed > 2 * TABS  # the tabs were served meanwhile
    assert lost == 0
    late = [row.trg for row in rows if row.err == ErrorCode.DEADLINE_MISSED]
    assert late == [], f"{len(late)} of {len(rows)} parts were too late"
    assert all(row.verdict for row in rows), Counter(row.err for row in rows)
    print(f"{TABS} tabs, {len(rows)} parts, {watched} of them watched, {renewed} drawings", Counter(seen))  # noqa: T201
