"""Real cameras in software, started and ended by the tests: a GigE Vision camera on loopback, and an RTSP server."""

import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from edge.cameras import gvcp
from tests.brokers import wait_until

GIGE_ADDRESS = "127.0.0.1"
GIGE_PROGRAM = "arv-fake-gv-camera-0.8"
RTSP_SERVER = Path(__file__).with_name("rtsp_server.py")


class SoftwareGigeCamera:
    """Debian's GigE Vision camera; its port is fixed, so that only one can run on a machine."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def plug_in(self, lost_per_thousand: int = 0) -> None:
        self._process = subprocess.Popen(
            [GIGE_PROGRAM, "-i", GIGE_ADDRESS, "-s", "TEST1", "-r", str(lost_per_thousand)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: gvcp.answers(GIGE_ADDRESS))

    @property
    def pid(self) -> int:
        """Of the program that is the camera; it must be plugged in."""
        assert self._process is not None
        return self._process.pid

    def unplug(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def gige_camera() -> Iterator[SoftwareGigeCamera]:
    """Not plugged in yet; skips where the program or Aravis is not installed."""
    if shutil.which(GIGE_PROGRAM) is None:
        pytest.skip("the software GigE camera is not installed: apt-get install aravis-tools gir1.2-aravis-0.8")
    if not _has_typelib(sys.executable, "Aravis", "0.8"):
        pytest.skip("Aravis for this Python is not installed: apt-get install gir1.2-aravis-0.8, extra genicam")
    with FileLock(Path(tempfile.gettempdir()) / "inspector-tests-gige.lock"):
        camera = SoftwareGigeCamera()
        try:
            yield camera
        finally:
            camera.unplug()


@contextmanager
def rtsp_server(width_px: int, height_px: int) -> Iterator["RtspServer"]:
    """A running server that sends red pictures; skips where GStreamer's is not installed."""
    pythons = [
        python for python in (sys.executable, "/usr/bin/python3") if _has_typelib(python, "GstRtspServer", "1.0")
    ]
    if not pythons:
        pytest.skip("no RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi")
    server = RtspServer(pythons[0], width_px, height_px)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class RtspServer:
    """GStreamer's RTSP server in a process of its own."""

    def __init__(self, python: str, width_px: int, height_px: int) -> None:
        with socket.create_server((GIGE_ADDRESS, 0)) as free:
            self.port: int = free.getsockname()[1]
        self._command = [python, str(RTSP_SERVER), str(self.port), str(width_px), str(height_px)]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"rtsp://{GIGE_ADDRESS}:{self.port}/line"

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._listens)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((GIGE_ADDRESS, self.port)) == 0


def viky_producer() -> Path:
    """The GenTL producer that the GenICam committee ships with its Python binding; skips without the extra."""
    if importlib.util.find_spec("harvesters") is None:
        pytest.skip("Harvesters is not installed: the extra harvesters")
    spec = importlib.util.find_spec("genicam")
    producer = None if spec is None or spec.origin is None else Path(spec.origin).with_name("viky.cti")
    if producer is None or not producer.is_file():
        pytest.skip("this release of genicam brings no producer along")
    return producer


def _has_typelib(python: str, name: str, version: str) -> bool:
    if shutil.which(python) is None:
        return False
    code = f"import gi; gi.require_version('{name}', '{version}'); from gi.repository import {name}"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
