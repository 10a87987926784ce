"""`inspector doctor`: look at everything the line needs, one line each, and say what to do.

Each check is a function that returns a `Finding`; a fault of a check is a finding too, never a traceback.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import typer

from inspector.commands.options import ConfigOption, JsonOption
from inspector.config import Config, load_config
from inspector.errors import InspectorError, StationError

MIN_PYTHON = (3, 11)
DISK_WARN_BYTES = 5 * 10**9
DISK_FAIL_BYTES = 5 * 10**8
CAMERA_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Finding:
    """What one check found: `status` is OK, WARN or FAIL; `advice` says what to do (empty when OK)."""

    check: str
    status: str
    detail: str
    advice: str = ""


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check Python, device, encoder, broker, database, disk and cameras; exit code 1 if one of them fails.

    Example: `inspector doctor --config line1.yaml`
    """
    settings = load_config(config)
    findings = []
    for name, check in CHECKS.items():
        try:
            finding = check(settings)
        except InspectorError as error:
            finding = Finding(name, "FAIL", str(error), "see the sentence above")
        findings.append(finding)
        if not as_json:
            typer.echo(_line(finding))
    failed = any(finding.status == "FAIL" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": not failed, "checks": [asdict(finding) for finding in findings]}))
    raise typer.Exit(1 if failed else 0)


def _line(finding: Finding) -> str:
    colour = {"OK": typer.colors.GREEN, "WARN": typer.colors.YELLOW, "FAIL": typer.colors.RED}[finding.status]
    advice = f" → {finding.advice}" if finding.advice else ""
    return f"{typer.style(f'{finding.status:4}', fg=colour)} {finding.check:10}{finding.detail}{advice}"


def _check_python(config: Config) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < MIN_PYTHON:
        return Finding("Python", "FAIL", version, "install Python 3.11 or newer")
    return Finding("Python", "OK", version)


def _check_device(config: Config) -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("device", "OK", f"{torch.cuda.get_device_name(0)} (torch {torch.__version__})")
    threads = f"CPU with {torch.get_num_threads()} threads (torch {torch.__version__})"
    if config.encoder.device.startswith("cuda"):
        return Finding("device", "FAIL", threads, "torch sees no GPU: set encoder.device to auto")
    return Finding("device", "OK", threads)


def _check_encoder(config: Config) -> Finding:
    import numpy as np

    from inspector.detection.encoder import load_encoder

    encoder = load_encoder(config.encoder)
    image = np.full((encoder.image_size, encoder.image_size, 3), 128, np.uint8)
    encoder.encode([image])
    start_s = time.perf_counter()
    encoder.encode([image])
    took_ms = (time.perf_counter() - start_s) * 1000
    text = "on" if encoder.has_text else "off"
    return Finding(
        "encoder", "OK", f"{encoder.name}, {encoder.image_size} px, {took_ms:.0f} ms a picture, text branch {text}"
    )


def _worker_status(config: Config) -> Mapping[str, Any] | None:
    """What the running worker says of itself; None if none runs.

    A login that is in use is not tried: a broker that ties the client id to it would end the worker's connection.
    """
    from inspector.commands.worker import require_worker
    from inspector.store import engine, stations

    try:
        require_worker(config)
    except StationError:
        return None
    store = engine.open_store(config.database_url)
    try:
        with store.read() as session:
            return stations.find_status(session, config.station.name)
    finally:
        store.close()


def _check_broker(config: Config) -> Finding:
    from inspector.contract.broker import probe_broker

    where = f"{config.mqtt.host}:{config.mqtt.port}"
    if (status := _worker_status(config)) is not None:
        answer = None if status.get("broker_connected") else str(status.get("broker_problem", "not connected"))
    else:
        answer = probe_broker(config.mqtt)
    if answer is None:
        return Finding("broker", "OK", f"{where} accepts the station's login")
    return Finding(
        "broker", "FAIL", f"{where}: {answer}", "start the broker, or set mqtt.host, mqtt.port and the login"
    )


def _check_sparkplug(config: Config) -> Finding:
    from inspector.contract.broker import probe_broker

    sparkplug = config.sparkplug
    if not sparkplug.enabled:
        return Finding("sparkplug", "OK", "switched off")
    where = f"{sparkplug.host}:{sparkplug.port}"
    if (status := _worker_status(config)) is not None:
        answer = (status.get("sparkplug") or {}).get("problem") or None
    else:
        answer = probe_broker(sparkplug)
    if answer is None:
        return Finding("sparkplug", "OK", f"{where} accepts the edge node's login")
    advice = "verdicts do not depend on it; set sparkplug.host, sparkplug.port and the login, or switch it off"
    return Finding("sparkplug", "WARN", f"{where}: {answer}", advice)


def _check_database(config: Config) -> Finding:
    from inspector.store.engine import check

    where = config.database_url.rsplit("@", 1)[-1]
    try:
        check(config.database_url)
    except InspectorError as error:
        return Finding("database", "FAIL", f"{where}: {error}", "run `inspector db upgrade`")
    return Finding("database", "OK", where)


def _check_disk(config: Config) -> Finding:
    folder = config.data_path
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    detail = f"{free_bytes / 1e9:.1f} GB free at {config.data_path}"
    if free_bytes < DISK_FAIL_BYTES:
        return Finding("disk", "FAIL", detail, "free some space, or move the files with INSPECTOR_DATA_DIR")
    if free_bytes < DISK_WARN_BYTES:
        return Finding("disk", "WARN", detail, "pictures will fill it: lower images.max_saved, or free some space")
    return Finding("disk", "OK", detail)


def _check_cameras(config: Config) -> Finding:
    """Cameras belong to `edge`, which the core does not import: its own check runs as a process."""
    command = [sys.executable, "-m", "edge.cameras", config.model_dump_json()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CAMERA_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding("camera", "FAIL", f"no answer within {CAMERA_TIMEOUT_S:.0f} s", "unplug and replug the camera")
    lines = "; ".join(done.stdout.split("\n")[:-1])
    if done.returncode:
        return Finding("camera", "FAIL", lines or done.stderr.strip(), "check cable, power and `cameras` in the file")
    return Finding("camera", "OK", lines)


CHECKS: dict[str, Callable[[Config], Finding]] = {
    "Python": _check_python,
    "device": _check_device,
    "encoder": _check_encoder,
    "broker": _check_broker,
    "sparkplug": _check_sparkplug,
    "database": _check_database,
    "disk": _check_disk,
    "camera": _check_cameras,
}
