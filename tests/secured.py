"""A mosquitto with the shipped configuration, rights and certificates; only paths and ports are the test's."""

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from inspector.config import MqttConfig
from inspector.contract.broker import HOST, find_mosquitto, free_port

SHIPPED = Path(__file__).parents[1] / "deploy" / "mosquitto"
PREFIX, OTHER_PREFIX = "factory/line1", "factory/line2"
CLIENTS = ("station1", "station1-plc", "station1-sparkplug", "station2", "reader", "scada")
PASSWORD = "a password"  # noqa: S105 - of a broker that lives for one test
needs_mosquitto = pytest.mark.skipif(
    find_mosquitto() is None or shutil.which("openssl") is None, reason="mosquitto or openssl is not installed"
)


def certificates(folder: Path, *arguments: str, days: int | None = None) -> None:
    """Run the shipped script."""
    environment = os.environ if days is None else os.environ | {"DAYS": str(days)}
    command = [str(SHIPPED / "certificates.sh"), str(folder), *arguments]
    subprocess.run(command, check=True, env=environment, capture_output=True)


def rights() -> str:
    """The shipped ACL files of one station, and of a second one by the README's rule."""
    first = "".join((SHIPPED / "acl" / f"{role}.acl").read_text() for role in sorted(ROLES))
    second = "".join((SHIPPED / "acl" / f"{role}.acl").read_text() for role in ("station", "plc", "reader"))
    return first + second.replace("station1", "station2").replace(PREFIX, OTHER_PREFIX)


ROLES = tuple(path.stem for path in (SHIPPED / "acl").glob("*.acl"))


class SecuredBroker:
    """Answers on `port` for certificates, on `password_port` for passwords, on `fat_port` for the acceptance test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.password_port, self.fat_port = free_port(), free_port(), free_port()
        self.keys = folder / "certs"
        certificates(self.keys, "ca")
        certificates(self.keys, "server", "localhost", HOST)
        for name in CLIENTS:
            certificates(self.keys, "client", name)
        (folder / "inspector.acl").write_text(rights())
        passwords = folder / "passwords"
        for create, name in ((["-c"], "station1"), ([], "station1-plc"), ([], "fat")):
            subprocess.run(["mosquitto_passwd", "-b", *create, passwords, name, PASSWORD], check=True)
        for private in (folder / "inspector.acl", passwords):
            private.chmod(0o600)
        self._log = (folder / "broker.log").open("wb")
        self._process = subprocess.Popen(
            [str(find_mosquitto()), "-c", str(self._config())], stdout=self._log, stderr=subprocess.STDOUT
        )
        self._wait()

    def _config(self) -> Path:
        text = (SHIPPED / "inspector.conf").read_text().replace("/etc/mosquitto/", f"{self.folder}/")
        text = re.sub(r"^#(?=\w)", "", text, flags=re.MULTILINE)  # the listener of the acceptance test is taken in
        for shipped, port in (("8883", self.port), ("8884", self.password_port), ("8885", self.fat_port)):
            assert f"listener {shipped}\n" in text
            text = text.replace(f"listener {shipped}\n", f"listener {port} {HOST}\n")
        path = self.folder / "inspector.conf"
        path.write_text(f"{text}log_dest stdout\n" + ("user root\n" if os.geteuid() == 0 else ""))
        return path

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        for port in (self.port, self.password_port, self.fat_port):
            while True:
                try:
                    socket.create_connection((HOST, port), 1).close()
                    break
                except OSError:
                    assert self._process.poll() is None, (self.folder / "broker.log").read_text()
                    assert time.monotonic() < deadline, "mosquitto does not answer"
                    time.sleep(0.05)

    def login(self, name: str | None, *, prefix: str = PREFIX, keys: Path | None = None) -> MqttConfig:
        """Settings of a client with the certificate of that name; None is a client without one."""
        folder = keys or self.keys
        mine = {} if name is None else {"cert_file": folder / f"{name}.crt", "key_file": folder / f"{name}.key"}
        return MqttConfig(port=self.port, prefix=prefix, tls=True, ca_file=self.keys / "ca.crt", **mine)

    def by_password(
        self, name: str, password: str = PASSWORD, *, prefix: str = PREFIX, port: int | None = None
    ) -> MqttConfig:
        """Settings of a client with user and password."""
        file = self.folder / f"{name}.password"
        file.write_text(f"{password}\n")
        file.chmod(0o600)
        return MqttConfig(
            port=port or self.password_port, prefix=prefix, tls=True, ca_file=self.keys / "ca.crt", username=name,
            password_file=file,
        )  # fmt: skip

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()
