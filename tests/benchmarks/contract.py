"""Measure the contract: what a verdict costs to encode and to publish, how long it takes to the PLC, how fast commands are
answered.

`python -m tests.benchmarks.contract` runs real brokers of each kind that is installed, a virtual PLC, and for the commands a
whole worker (embedded tower on a coarse grid) with parts coming by. Times are of this machine.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from inspector.config import Config, MqttConfig
from inspector.contract.binary import ByteOrder, pack_result
from inspector.contract.channels import CHANNELS, example_of
from inspector.contract.codes import AckCode
from inspector.contract.gate import Decision
from inspector.contract.link import BrokerLink
from inspector.contract.messages import U16_MAX, U32_MAX, Ack, Heartbeat, Ping, Result, State
from inspector.contract.session import Acknowledged, Identity, Received
from inspector.contract.topics import Topics
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc
from tests.brokers import KINDS, TestBroker, wait_until
from tests.end_to_end.plant import START_S, Belt, small_encoder, teach

ENCODINGS = 20_000
GAP_S = 0.02
PART_PERIOD_S = 0.1
PREFIX = "bench/line1"
KIND = "flange"
ORDER: ByteOrder = "little"
Figures = dict[str, Any]


def quantiles(times_s: list[float], unit: float) -> Figures:
    """Median, 99th percentile and largest of durations, in seconds divided by `unit`."""
    ordered = sorted(times_s)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] / unit, 2)

    return {"p50": at(0.5), "p99": at(0.99), "max": at(1.0), "n": len(ordered)}


def timed(call: Callable[[], object], count: int) -> list[float]:
    times_s = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - started)
    return times_s


def largest_result() -> Result:
    """A verdict whose text is as long as its values allow."""
    return Result(
        boot=U16_MAX, seq=U32_MAX, trg=U32_MAX, res=2, err=U16_MAX, flg=U16_MAX, rcp=U16_MAX, rev=U16_MAX, scr=-(2**31),
        roi=U16_MAX, lat=U16_MAX, ts=U32_MAX, ms=999, part="x" * 32,
    )  # fmt: skip


def encoding() -> Figures:
    """Microseconds and bytes of a verdict in both forms: from the message with its latency to the bytes."""
    result = next(example_of(channel.model) for channel in CHANNELS if channel.kind == "result")
    assert isinstance(result, Result)
    text = timed(lambda: result.model_copy(update={"lat": 38}).to_json(), ENCODINGS)
    binary = timed(lambda: pack_result(result.model_copy(update={"lat": 38}), ORDER), ENCODINGS)
    most = len(largest_result().to_json())
    return {
        "result": quantiles(text, 1e-6) | {"bytes": len(result.to_json()), "most_bytes": most},
        "resultb": quantiles(binary, 1e-6) | {"bytes": len(pack_result(result, ORDER)), "most_bytes": 64},
    }


class Sender:
    """The station's end of a connection: state, heartbeat and verdicts, without anything behind them."""

    def __init__(self, config: MqttConfig) -> None:
        self.topics = Topics(config.prefix)
        self.link = BrokerLink(config, Identity("bench-station"))
        self._acknowledged: queue.Queue[Any] = self.link.listen(Acknowledged)
        self._state = State(on=1, st=7, mode=0, boot=1, rcp=1, rev=1, err=0, win=2000, hbp=1000, ts=1)
        self.link.start()
        wait_until(lambda: self.link.is_connected, 30)

    def say(self) -> None:
        beat = Heartbeat(boot=1, n=1, st=7, age=0, q=0, seq=0)
        self.link.publish(self.topics.state, self._state.to_json(), qos=1, retain=True)
        self.link.publish(self.topics.hb, beat.to_json())

    def send(self, number: int, form: str) -> float:
        """Send verdict `number`; gives the seconds that handing it to the socket took."""
        result = Result(
            boot=1, seq=number, trg=number, res=1, err=0, flg=0, rcp=1, rev=1, scr=612, roi=0, lat=38, ts=1795219200,
            ms=125, part=f"A-{number:08d}",
        )  # fmt: skip
        payload = result.to_json() if form == "result" else pack_result(result, ORDER)
        started = time.perf_counter()
        token = self.link.publish(self.topics.of(form), payload, qos=1, expiry_s=2.0)
        took_s = time.perf_counter() - started
        assert token is not None, "the broker does not acknowledge as fast as verdicts are sent"
        return took_s


@contextmanager
def running(kind: Any) -> Iterator[TestBroker]:
    with tempfile.TemporaryDirectory() as folder:
        broker = TestBroker(kind, Path(folder))
        try:
            yield broker
        finally:
            broker.close()


def reaching(kind: Any, form: str, verdicts: int) -> Figures:
    """From the call that publishes a verdict to the virtual PLC's decision, and what the call itself costs."""
    reached: dict[int, float] = {}

    def decided(decision: Decision) -> None:
        assert decision.accepted, f"the PLC rejected verdict {decision.trg}: {decision.reason}"
        reached[decision.trg] = time.perf_counter()

    with running(kind) as broker:
        config = MqttConfig(port=broker.port, prefix=PREFIX)
        sender = Sender(config)
        settings = PlcSettings(timeout_s=10.0, binary=ORDER if form == "resultb" else None)
        with VirtualPlc(config, settings, wanted_rcp=1, on_decision=decided) as plc:
            wait_until(lambda: plc.link.is_connected, 30)
            sent, calls = {}, []
            for number in range(1, verdicts + 1):
                sender.say()
                plc.wait_ready()
                plc.expect(number)
                sent[number] = time.perf_counter()
                calls.append(sender.send(number, form))
                time.sleep(GAP_S)
            plc.wait_decided()
        sender.link.stop()
    took = [reached[number] - at for number, at in sent.items()]
    return {"publish_us": quantiles(calls, 1e-6), "to_plc_ms": quantiles(took, 1e-3)}


@contextmanager
def working_line(folder: Path) -> Iterator[tuple[Config, dict[str, int]]]:
    """A worker with a simulated camera that the PLC triggers."""
    broker = TestBroker(KINDS[0], folder / "broker")
    values: Figures = {
        "data_dir": str(folder / "data"),
        "encoder": small_encoder(folder),
        "cameras": [{"name": "line", "kind": "simulated", "trigger": "mqtt"}],
        "mqtt": {"port": broker.port, "prefix": PREFIX},
        "batching": {"deadline_ms": 4000, "queue_size": 64},
        "images": {"save": "none"},
    }
    config = Config.model_validate(values)
    taught = teach(config, (KIND,), active=KIND)
    path = folder / "line.yaml"
    path.write_text(yaml.safe_dump(values))
    with (folder / "worker.log").open("wb") as log:
        environment = {key: value for key, value in os.environ.items() if key != "INSPECTOR_DATA_DIR"}
        command = [sys.executable, "-m", "edge", "--config", str(path)]
        worker = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        yield config, taught
    finally:
        worker.terminate()
        worker.wait(60)
        broker.close()


def answering(commands: int) -> Figures:
    """From sending a command to its two answers, on a worker with parts coming by."""
    with tempfile.TemporaryDirectory() as name, working_line(Path(name)) as (config, taught):
        topics = Topics(PREFIX)
        link = BrokerLink(config.mqtt, Identity("bench-hmi", subscriptions=((topics.ack, 1),)))
        answers: queue.Queue[Any] = link.listen(Received)
        link.start()
        settings = PlcSettings(allow_simulated=True, timeout_s=5.0)
        accepted, final = [], []
        with VirtualPlc(config.mqtt, settings, wanted_rcp=taught[KIND]) as plc:
            plc.wait_ready(START_S)
            with Belt(plc, KIND, PART_PERIOD_S) as belt:
                belt.wait_for(10)
                for cid in range(1, commands + 1):
                    first_s, second_s = _ask(link, topics, answers, cid)
                    accepted.append(first_s)
                    final.append(second_s)
                parts = len(belt.triggers)
            plc.wait_decided()
        link.stop()
    slow = sum(took_s > 0.2 for took_s in accepted)
    figures = {"accepted_ms": quantiles(accepted, 1e-3), "final_ms": quantiles(final, 1e-3)}
    return figures | {"over_200_ms": slow, "parts": parts}


def _ask(link: BrokerLink, topics: Topics, answers: "queue.Queue[Any]", cid: int) -> tuple[float, float]:
    sent = time.monotonic()
    assert link.publish(topics.cmd("ping"), Ping(cid=cid).to_json(), qos=1) is not None
    came: dict[bool, float] = {}
    while len(came) < 2:
        event = answers.get(timeout=30)
        ack = Ack.from_json(event.payload)
        if ack.cid == cid and ack.cmd == "ping":
            came[AckCode(ack.code).is_final] = event.received_monotonic_s - sent
    time.sleep(GAP_S)
    return came[False], came[True]


def _row(table: Table, what: str, unit: str, figures: Figures, note: str = "") -> None:
    table.add_row(what, unit, *(f"{figures[key]:g}" for key in ("p50", "p99", "max", "n")), note)


def _show(measured: Figures) -> None:
    table = Table("what", "unit", "p50", "p99", "max", "n", "", box=None)
    for form, figures in measured["encode"].items():
        _row(table, f"encode {form}", "µs", figures, f"{figures['bytes']} bytes, at most {figures['most_bytes']}")
    for name, figures in measured["brokers"].items():
        _row(table, f"publish, {name}", "µs", figures["publish_us"])
        _row(table, f"publish to PLC, {name}", "ms", figures["to_plc_ms"])
    if acks := measured.get("acks"):
        _row(table, "command accepted", "ms", acks["accepted_ms"], f"{acks['over_200_ms']} over 200 ms")
        _row(table, "command done", "ms", acks["final_ms"], f"{acks['parts']} parts came by")
    Console(width=110).print(table)


def main(verdicts: int = 500, commands: int = 200, as_json: bool = typer.Option(False, "--json")) -> None:
    """Print a table, or with --json the same figures for programs; exit code 1 if a command was not accepted in 200 ms."""
    measured: Figures = {"encode": encoding(), "brokers": {}}
    for kind in KINDS:
        for form in ("result", "resultb"):
            measured["brokers"][f"{form}, {kind}"] = reaching(kind, form, verdicts)
    if commands:
        measured["acks"] = answering(commands)
    if as_json:
        typer.echo(json.dumps(measured))
    else:
        _show(measured)
    raise typer.Exit(int(bool(measured.get("acks", {}).get("over_200_ms"))))


if __name__ == "__main__":
    typer.run(main)
