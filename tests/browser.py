"""The pages in a real server and a real browser; tests that need them are skipped with the reason where they are missing."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from inspector.config import Config
from tests.brokers import wait_until

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A headless Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def program(
    package: str, config_path: Path, log: Path, ended_by: signal.Signals = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m package --config …` in its own group until the block ends; it must then end as it should."""
    command = [sys.executable, "-m", package, "--config", str(config_path)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            yield process
        finally:
            process.send_signal(ended_by)
            try:
                assert process.wait(30) == 0, log.read_text()
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)


@contextmanager
def served(config: Config, config_path: Path, log: Path, ended_by: signal.Signals = signal.SIGTERM) -> Iterator[str]:
    """The pages of a configuration; gives their address."""
    address = f"http://{config.dashboard.host}:{config.dashboard.port}"
    with program("dashboard", config_path, log, ended_by) as process:

        def healthy() -> bool:
            assert process.poll() is None, log.read_text()
            with suppress(OSError), urllib.request.urlopen(f"{address}/_stcore/health", timeout=1) as answer:  # noqa: S310
                return bool(answer.status == 200)
            return False

        wait_until(healthy, 60)
        yield address
