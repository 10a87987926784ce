"""`inspector fat`: the interface acceptance test of the PLC, on the virtual one or on a real one."""

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from inspector.commands.options import ConfigOption, JsonOption
from inspector.config import MqttConfig, load_config
from inspector.contract.binary import ByteOrder
from inspector.contract.messages import U16_MAX
from inspector.errors import UsageError
from inspector.fat import report
from inspector.fat.faults import FAULTS, Fault
from inspector.fat.opponents import VIRTUAL_TIMEOUT_S, Opponent, RealOpponent, VirtualOpponent
from inspector.fat.run import FatResult, Outcome, Status, run

COLOURS = {Status.PASSED: "green", Status.FAILED: "red", Status.UNKNOWN: "red", Status.NOT_RUN: "yellow"}


class PlcChoice(StrEnum):
    """What `--plc` takes."""

    VIRTUAL = "virtual"
    REAL = "real"


class ByteOrderChoice(StrEnum):
    """What `--binary` takes."""

    LITTLE = "little"
    BIG = "big"


def fat(
    plc: Annotated[
        PlcChoice, typer.Option(help="virtual: our own, with a broker of its own; real: one that answers on `disp`.")
    ] = PlcChoice.VIRTUAL,
    host: Annotated[str | None, typer.Option(help="real: the plant's broker instead of mqtt.host.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="real: instead of mqtt.port.")] = None,
    prefix: Annotated[str | None, typer.Option(help="real: instead of mqtt.prefix.")] = None,
    rcp: Annotated[int, typer.Option(min=1, max=U16_MAX, help="Product that the PLC wants.")] = 1,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", min=0.2, max=60, help="The PLC's own timer from trigger to verdict, in seconds."),
    ] = VIRTUAL_TIMEOUT_S,
    wait_s: Annotated[
        float, typer.Option("--wait", min=1, max=3600, help="real: how long its first part is waited for, in seconds.")
    ] = 60.0,
    plc_client_id: Annotated[
        str | None, typer.Option(help="real: its MQTT client id, so that its connection can be cut.")
    ] = None,
    binary: Annotated[
        ByteOrderChoice | None,
        typer.Option(help="The PLC reads verdicts on `resultb`, in this byte order, and none on `result`."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only faults whose name has this in it; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the printable report (HTML) into this file.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Interface acceptance test: play a station that goes wrong, and see that the PLC accepts no bad part.

    A real PLC must trigger parts by cmd/trigger and answer each on disp; no worker may run below the same prefix, and no
    product may lie on the line: the PLC accepts parts that nobody has looked at. Exit code 1: a fault failed, or no answer.

    Example: `inspector fat --plc real --host 10.0.0.5 --prefix plant/line4 --rcp 3 --out fat.html`
    """
    where = {"host": host, "port": port, "prefix": prefix}
    order: ByteOrder | None = None if binary is None else binary.value
    opponent: Opponent
    if plc is PlcChoice.REAL:
        plant = _plant(config, where)
        opponent = RealOpponent(plant, timeout_s=timeout_s, first_part_s=wait_s, client_id=plc_client_id, binary=order)
    elif plc_client_id or any(where.values()):
        raise UsageError("--host, --port, --prefix and --plc-client-id are for a real PLC; add --plc real")
    else:
        opponent = VirtualOpponent(rcp=rcp, timeout_s=timeout_s, binary=order)
    result = _run(opponent, rcp, _chosen(only or []), out)
    if as_json:
        typer.echo(json.dumps(result.to_json()))
    else:
        _tell(result, out)
    if not result.passed:
        raise typer.Exit(1)


def _plant(config: Path | None, where: dict[str, str | int | None]) -> MqttConfig:
    """The configured broker, with what the command line says instead."""
    told = {name: value for name, value in where.items() if value is not None}
    try:
        return MqttConfig.model_validate(load_config(config).mqtt.model_dump() | told)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--{first['loc'][0]}: {first['msg']}") from error


def _run(opponent: Opponent, rcp: int, faults: list[Fault], out: Path | None) -> FatResult:
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise UsageError(f"{out}: cannot be written: no such folder")  # told before the test, not after it
    logging.getLogger("inspector.contract").setLevel(logging.ERROR)  # connections are cut on purpose
    result = run(opponent, rcp=rcp, faults=faults, say=_Progress(len(faults)))
    if out is not None:
        text = report.write_html(result, datetime.now(UTC).astimezone().tzinfo or UTC)
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{out}: cannot be written: {error.strerror}") from error
    return result


def _chosen(names: list[str]) -> list[Fault]:
    unknown = [name for name in names if not any(name in fault.name for fault in FAULTS)]
    if unknown:
        known = "; ".join(fault.name for fault in FAULTS)
        raise UsageError(f"no fault has {unknown[0]!r} in its name; there are: {known}")
    return [fault for fault in FAULTS if not names or any(name in fault.name for name in names)]


class _Progress:
    """One line per fault on standard error, so that `--json` stays alone on standard output."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._console = Console(stderr=True, highlight=False)

    def __call__(self, place: int, fault: Fault, outcome: Outcome | None) -> None:
        if outcome is None:
            self._console.print(
                f"[{place}/{self._total}] {fault.name} …", markup=False, end="\r" if self._live else "\n"
            )
        elif self._live:
            line = f"[{place}/{self._total}] {fault.name}: {outcome.status}"
            self._console.print(line, markup=False, style=COLOURS[outcome.status])
        else:
            self._console.print(f"    {outcome.status}", markup=False)

    @property
    def _live(self) -> bool:
        return self._console.is_terminal


def _tell(result: FatResult, out: Path | None) -> None:
    table = Table("fault", "result", "safe after", "good again", "bad parts accepted", "remark", box=SIMPLE_HEAD)
    for outcome in result.outcomes:
        seconds = ["–" if value is None else f"{value:.2f} s" for value in (outcome.safe_s, outcome.back_s)]
        remark = "; ".join(text for text in (outcome.reason, *outcome.notes) if text)
        status = f"[{COLOURS[outcome.status]}]{outcome.status}[/]"
        table.add_row(outcome.name, status, *seconds, f"{outcome.bad_accepted} of {outcome.bad_parts}", remark)
    Console().print(table)
    typer.echo(report.conclusion(result))
    if out is not None:
        typer.echo(f"report: {out}")
