"""A broker for the demo and the tests: mosquitto where it is installed, else the embedded amqtt; loopback.

May import errors, paho (to see whether the broker really answers) and, in the subprocess, amqtt. It keeps
nothing on disk, so it is no broker for a plant. `python -m inspector.contract.broker PORT` runs amqtt alone.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from inspector.config import BrokerConfig
from inspector.contract.session import Identity, ProtocolRefusedError, Session
from inspector.errors import BrokerError

HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0

BrokerKind = Literal["mosquitto", "amqtt"]


@dataclass
class BrokerProcess:
    """A running broker of ours; ends with `stop()` or at the end of a `with` block."""

    kind: BrokerKind
    port: int
    folder: Path
    _process: subprocess.Popen[bytes]
    _own_folder: bool
    host: str = HOST

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End the broker as an administrator would; kill it if it does not listen."""
        if self.is_alive:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._reap()

    def kill(self) -> None:
        """End the broker as a power cut would."""
        self._process.kill()
        self._reap()

    def _reap(self) -> None:
        self._process.wait(STOP_TIMEOUT_S)
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def find_mosquitto() -> Path | None:
    """Path of the mosquitto program; Debian puts it where a user's PATH does not look."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"])
    found = shutil.which("mosquitto", path=path)
    return Path(found) if found else None


def free_port() -> int:
    """Give a port of the loopback interface that is free now."""
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def start_broker(
    port: int = 0,
    folder: Path | None = None,
    *,
    kind: BrokerKind | None = None,
    password_file: Path | None = None,
) -> BrokerProcess:
    """Start a broker and wait until it answers an MQTT connection.

    `port` 0 takes a free one. `kind` None takes mosquitto if it is installed. `folder` gets the log and the
    generated configuration (default: a temporary folder that goes with the broker). With `password_file`
    (mosquitto only, made by mosquitto_passwd) nobody gets in without a login.

    Raises:
        BrokerError: the port is in use, the program is not installed, or it does not answer in time.
    """
    mosquitto = find_mosquitto()
    chosen: BrokerKind = kind or ("mosquitto" if mosquitto else "amqtt")
    if chosen == "mosquitto" and mosquitto is None:
        raise BrokerError("mosquitto is not installed; install it, or use the embedded broker amqtt")
    if chosen == "amqtt" and password_file is not None:
        raise BrokerError("the embedded broker amqtt has no logins here; use mosquitto for a password file")
    if port:
        _refuse_used_port(port)
    port = port or free_port()
    own_folder = folder is None
    place = Path(tempfile.mkdtemp(prefix="inspector-broker-")) if folder is None else folder
    place.mkdir(parents=True, exist_ok=True)
    if chosen == "mosquitto":
        command = [str(mosquitto), "-c", str(_write_mosquitto_config(place, port, password_file))]
    else:
        command = [sys.executable, "-m", "inspector.contract.broker", str(port), str(os.getpid())]
    with (place / "broker.log").open("ab") as log:
        process = _start(command, log)
    broker = BrokerProcess(chosen, port, place, process, own_folder)
    try:
        _wait_until_it_answers(broker)
    except BrokerError:
        broker.stop()
        raise
    return broker


def _start(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    # The subprocess must find this very package, however this process came to it.
    package_root = str(Path(__file__).parents[2])
    search = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": search}
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    except OSError as error:
        raise BrokerError(f"the broker {command[0]} cannot be started: {error}") from error


def _refuse_used_port(port: int) -> None:
    try:
        with socket.create_server((HOST, port)):
            pass
    except OSError as error:
        raise BrokerError(
            f"port {port} of {HOST} cannot be used for a broker: {os.strerror(error.errno or 0)}; "
            "end what uses it, or choose another port"
        ) from error


def _write_mosquitto_config(folder: Path, port: int, password_file: Path | None) -> Path:
    lines = [f"listener {port} {HOST}", "persistence false", "log_dest stdout", "set_tcp_nodelay true"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        lines.append("user root")  # else it becomes a user who may not read the folder
    if password_file is None:
        lines.append("allow_anonymous true")
    else:
        lines += ["allow_anonymous false", f"password_file {password_file}"]
    path = folder / "mosquitto.conf"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _wait_until_it_answers(broker: BrokerProcess) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if not broker.is_alive:
            raise BrokerError(f"the broker {broker.kind} ended while it started: {_last_words(broker)}")
        if _answers(broker.port):
            return
        time.sleep(0.05)
    raise BrokerError(f"the broker {broker.kind} did not answer within {START_TIMEOUT_S:g} s: {_last_words(broker)}")


def _last_words(broker: BrokerProcess) -> str:
    text = (broker.folder / "broker.log").read_text(encoding="utf-8", errors="replace").strip()
    return text.splitlines()[-1] if text else "it wrote no log"


def _answers(port: int) -> bool:
    """Whether an MQTT connection gets any answer at all, a refused login included."""
    answered = threading.Event()  # set by any CONNACK, a refusing one too
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="broker-probe", reconnect_on_failure=False)
    client.on_connect = lambda *_: answered.set()
    try:
        client.connect(HOST, port, keepalive=5)
    except OSError:
        return False
    client.loop_start()
    try:
        return answered.wait(2.0)
    finally:
        client.disconnect()
        client.loop_stop()


def probe_broker(config: BrokerConfig) -> str | None:
    """Log in once, as nobody in particular; None if the broker accepts it, else why not."""
    try:
        for protocol in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311):
            session = Session(config, Identity("inspector-probe"), protocol, number=0, tell=lambda _event: None)
            try:
                session.open()
            except ProtocolRefusedError as error:
                problem = str(error)
            else:
                return None
            finally:
                session.close()
    except BrokerError as error:
        return str(error)
    return problem


async def _serve_amqtt(port: int, parent: int) -> None:
    """Run amqtt until SIGTERM, or until the program that started it is gone."""
    from amqtt.broker import Broker

    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    listener = {"type": "tcp", "bind": f"{HOST}:{port}"}
    broker = Broker({"listeners": {"default": listener}, "plugins": plugins})
    await broker.start()
    ended = asyncio.Event()
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    while not ended.is_set() and (parent == 0 or os.getppid() == parent):
        try:
            await asyncio.wait_for(ended.wait(), 1.0)
        except TimeoutError:
            continue
    await broker.shutdown()


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:3]]
    asyncio.run(_serve_amqtt(arguments[0], arguments[1] if len(arguments) > 1 else 0))
