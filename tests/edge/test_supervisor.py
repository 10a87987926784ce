"""The supervisor lives while its worker does not, and says so: systemd ends a service that is silent for a minute."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge import supervisor as module
from edge.supervision import Restart
from edge.supervisor import Supervisor
from inspector.config import Config
from tests.brokers import wait_until


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemd hears of a supervisor that rests in short steps."""
    words: list[str] = []
    monkeypatch.setattr(module, "notify", lambda *said: words.extend(said))
    monkeypatch.setattr(module, "ALIVE_S", 0.1)
    return words


@contextmanager
def supervised(tmp_path: Path, program: str, pause_s: float) -> Iterator[None]:
    """A supervisor whose worker is this Python program, and which rests so long after each."""
    stopping = threading.Event()
    supervisor = Supervisor(Config.model_validate({"data_dir": str(tmp_path)}), None, stopping)
    supervisor._command = [sys.executable, "-c", program]
    supervisor._breaker.failed = lambda *_: Restart(pause_s, False)  # type: ignore[method-assign]
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(60)
    assert not thread.is_alive()


def test_systemd_hears_of_a_supervisor_while_its_worker_takes_its_time_to_start(
    told: list[str], tmp_path: Path
) -> None:
    with supervised(tmp_path, "import time; time.sleep(600)", 600.0):
        wait_until(lambda: told.count("WATCHDOG=1") >= 5, 60)
    assert "READY=1" not in told


def test_systemd_hears_of_a_supervisor_that_rests(told: list[str], tmp_path: Path) -> None:
    with supervised(tmp_path, "import os; os._exit(99)", 600.0):
        wait_until(lambda: any("next start in 600 s" in word for word in told), 60)
        before = told.count("WATCHDOG=1")
        wait_until(lambda: told.count("WATCHDOG=1") >= before + 5, 60)
