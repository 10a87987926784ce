"""The faults: what is done to the line, and what a person or the world does afterwards. Names are those of the fault list."""

import os
import random
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspector.contract.broker import free_port
from inspector.errors import BrokerError
from tests.brokers import wait_until
from tests.chaos.rig import Plant
from tests.end_to_end.plant import Line

CLOCK = Path(__file__).with_name("shifted_clock.c")


class UnavailableError(Exception):
    """This machine lacks what the fault needs."""


@dataclass(frozen=True)
class Fault:
    """`strike` does it, `mend` puts right after `hold_s` what does not mend itself; without it nobody comes.

    `stops`: parts cannot pass while it lasts. `values` and `prepare` make the line for it.
    """

    name: str
    what: str
    strike: Callable[[Plant], None]
    mend: Callable[[Plant], None] | None = None
    hold_s: float = 6.0
    stops: bool = True
    values: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[Line, ExitStack], None] | None = None
    supervised: bool = True
    kind: str = "flange"
    period_s: float = 0.12
    check: Callable[[Plant], None] | None = None
    """What else must hold after the end of the line."""
    before: Callable[[Plant], None] | None = None
    """What happens on the running line before the fault."""
    short: bool = False


def signal_worker(number: signal.Signals) -> Callable[[Plant], None]:
    return lambda plant: os.kill(plant.line.worker_pid, number)


def random_kills(times: int) -> Callable[[Plant], None]:
    """Without the supervisor, whose growing pauses would make this take hours: killed at any moment, started at once."""

    def kill(plant: Plant) -> None:
        moments = random.Random(7)
        for _ in range(times):
            time.sleep(moments.uniform(0.0, 14.0))  # in the middle of a start as well as of production
            plant.process.kill()
            plant.process.wait()
            plant.process = plant.line.start()

    return kill


def kill_supervisor(plant: Plant) -> None:
    plant.process.kill()
    plant.process.wait()


def start_again(plant: Plant) -> None:
    plant.process = plant.line.supervise()


def kill_dashboard(plant: Plant) -> None:
    """A dashboard that is being looked at, killed in the middle."""
    port = free_port()
    plant.line.values["dashboard"] = {"port": port}
    command = [sys.executable, "-m", "inspector", "dashboard", "--config", str(plant.line.config_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port), 60)
    finally:
        process.kill()
        process.wait()


def start_second_worker(plant: Plant) -> None:
    second = plant.line.start()
    assert second.wait(60) != 0, "a second worker of the same station was not refused"


def kill_broker(plant: Plant) -> None:
    plant.line.broker.kill()


def restart_broker(plant: Plant) -> None:
    plant.line.broker.restart()


def refuse_at_broker(plant: Plant) -> None:
    """A broker that wants a login nobody has."""
    broker = plant.line.broker
    passwords = plant.line.folder / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(passwords), "somebody", "else"], check=True, capture_output=True
    )
    passwords.chmod(0o644)
    broker.kill()
    broker.password_file = passwords
    broker.restart()


def let_in_again(plant: Plant) -> None:
    plant.line.broker.kill()
    plant.line.broker.password_file = None
    plant.line.broker.restart()


def speak_nonsense_at_broker(plant: Plant) -> None:
    """Something else listens on the broker's port and answers with bytes that are no MQTT."""
    plant.line.broker.kill()
    server = socket.create_server(("127.0.0.1", plant.line.broker.port))
    ended = threading.Event()

    def answer() -> None:
        while not ended.is_set():
            with suppress(OSError):
                connection, _ = server.accept()
                connection.sendall(b"\xa5\x5a\xff\x00\xf0" * 20)
                connection.close()

    threading.Thread(target=answer, daemon=True).start()

    def end() -> None:
        ended.set()
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()

    plant.after.callback(end)


def end_nonsense(plant: Plant) -> None:
    plant.after.close()
    wait_until(lambda: not _listens(plant.line.broker.port))
    plant.line.broker.restart()


def database(line: Line) -> Path:
    return Path(line.values["data_dir"]) / "inspector.db"


def lock_database(plant: Plant) -> None:
    """Another program holds the write lock."""
    connection = sqlite3.connect(database(plant.line), isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    plant.after.callback(connection.close)


def put_right(plant: Plant) -> None:
    """Undo what `strike` has left in `plant.after`."""
    plant.after.close()


def delete_database(plant: Plant) -> None:
    for side in ("", "-wal", "-shm"):
        path = database(plant.line)
        path.with_name(path.name + side).unlink(missing_ok=True)


def corrupt_database(plant: Plant) -> None:
    """Overwritten with noise while no worker runs, as by a dying disk."""
    kill_supervisor(plant)
    wait_until(lambda: not _lives(plant), 30)
    path = database(plant.line)
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def back_up(plant: Plant) -> None:
    command = [sys.executable, "-m", "inspector", "db", "backup", "--config", str(plant.line.config_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def newer_schema(plant: Plant) -> None:
    """The database was upgraded by a newer release, and then the worker starts again."""
    kill_supervisor(plant)
    wait_until(lambda: not _lives(plant), 30)
    plant.after.callback(_set_schema, plant, _set_schema(plant, "9999"))
    start_again(plant)


def older_schema(plant: Plant) -> None:
    plant.process.wait(60)
    plant.after.close()
    start_again(plant)


def _set_schema(plant: Plant, revision: str) -> str:
    """Gives the revision that stood there."""
    with closing(sqlite3.connect(database(plant.line))) as connection, connection:
        before: str = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    return before


def small_disk(line: Line, after: ExitStack) -> None:
    """The data folder on a file system of 64 MiB."""
    place = line.folder / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        raise UnavailableError("a small file system can be mounted by root only")
    after.callback(subprocess.run, ["umount", "-l", str(place)], check=True)
    subprocess.run(["cp", "-r", str(line.folder / "data"), str(place)], check=True)
    line.values |= {
        "data_dir": str(place / "data"),
        "images": {"save": "all", "min_free_mb": 12},
        "disk": {"ballast_mb": 8},
    }


def fill_disk(plant: Plant) -> None:
    """Somebody writes until not a byte is left."""
    with (Path(plant.line.values["data_dir"]).parent / "somebody").open("ab", buffering=0) as taken, suppress(OSError):
        while True:
            taken.write(bytes(2**20))


def free_disk(plant: Plant) -> None:
    (Path(plant.line.values["data_dir"]).parent / "somebody").unlink()


def own_clock(line: Line, after: ExitStack) -> None:
    """The line's programs get a wall clock that the test can set; the PLC and the broker keep theirs."""
    library, shift = line.folder / "clock.so", line.folder / "shift"
    try:
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(CLOCK)], check=True, capture_output=True
        )
    except FileNotFoundError as error:
        raise UnavailableError("no C compiler for the clock that can be set") from error
    shift.write_bytes(struct.pack("<q", 0))
    line.environment |= {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(shift)}


def set_clock(shift_s: int) -> Callable[[Plant], None]:
    def jump(plant: Plant) -> None:
        with (plant.line.folder / "shift").open("r+b") as file:
            file.write(struct.pack("<q", shift_s))

    return jump


def corrupt_bank(plant: Plant) -> None:
    """The bank of the other product is damaged on the disk, and then that product is selected."""
    with plant.line.store() as store, store.read() as session:
        from inspector.store.schema import Recipe

        gear = next(one for one in session.query(Recipe) if one.product.rcp == plant.line.taught["gear"])
        path = Path(plant.line.values["data_dir"]) / str(gear.bank_path)
    bank = path if path.is_file() else next(path.glob("*.safetensors"))
    data = bytearray(bank.read_bytes())
    data[len(data) // 2] ^= 0xFF
    bank.write_bytes(data)
    with suppress(BrokerError):
        plant.plc.select_recipe(plant.line.taught["gear"], timeout_s=10)


def select_flange(plant: Plant) -> None:
    plant.plc.select_recipe(plant.line.taught["flange"], timeout_s=30)


def swap(times: int) -> Callable[[Plant], None]:
    """Product changes at any moment while parts come; what lies on the belt changes with them."""

    def change(plant: Plant) -> None:
        moments = random.Random(7)
        for number in range(times):
            time.sleep(moments.uniform(0.0, 0.3))
            kind = ("gear", "flange")[number % 2]
            plant.plc.select_recipe(plant.line.taught[kind], timeout_s=30)
            plant.belt.kind = kind

    return change


def hurry(factor: float) -> Callable[[Plant], None]:
    def change(plant: Plant) -> None:
        plant.belt.period_s /= factor

    return change


def reset_counter(plant: Plant) -> None:
    """The PLC's program is loaded anew: its counter begins at 1 again."""
    plant.restart_plc(1)


def pass_by_unseen(parts: int) -> Callable[[Plant], None]:
    """The PLC has counted on while the station did not see or hear anything."""

    def pass_by(plant: Plant) -> None:
        belt = plant.belt
        belt.pause.set()
        last = belt.triggered[-1][0]
        belt.triggered += [(last + number, belt.kind, time.monotonic()) for number in range(1, parts + 1)]
        plant.restart_plc(last + parts + 1)

    return pass_by


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _lives(plant: Plant) -> bool:
    with suppress(OSError):
        os.kill(plant.line.worker_pid, 0)
        return True
    return False


def camera(**values: Any) -> dict[str, Any]:
    base = {"name": "line", "kind": "simulated", "trigger": "mqtt", "defect_rate": 0.1}
    return {"cameras": [base | values]}


def nothing(_: Plant) -> None:
    """The line itself meets it, part by part."""
