"""`inspector demo`: a simulated line with everything real around it, in one command."""

import json
import signal
import threading
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from inspector.commands.options import JsonOption
from inspector.demo import Books, DemoLine, DemoPlan, DemoSummary

PartsOption = Annotated[int | None, typer.Option(min=1, help="End after so many parts; default: go on until Ctrl-C.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the drawn parts.")]
RateOption = Annotated[float, typer.Option(min=0.1, max=50.0, help="Parts per second.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port of the demo's broker; 0: 1883, or a free one.")]


def demo(
    parts: PartsOption = None,
    seed: SeedOption = 1,
    rate: RateOption = 4.0,
    no_dashboard: Annotated[bool, typer.Option("--no-dashboard", help="Do not start the dashboard.")] = False,
    mqtt_port: PortOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Watch a line being inspected: drawn parts, the real worker, MQTT broker, SQL, virtual PLC and dashboard.

    Exit code 1 if a part has no verdict, or more than one. Files lie in the data folder below `demo` until the next demo.

    Example: `inspector demo --parts 300 --no-dashboard --json`
    """
    console = Console(stderr=True)
    stopping, running = threading.Event(), threading.Event()

    def on_signal(*_: object) -> None:
        stopping.set()
        if not running.is_set():
            raise KeyboardInterrupt  # nothing to count yet: end what was started

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    plan = DemoPlan(parts, seed, rate, not no_dashboard, mqtt_port)
    line = DemoLine(plan, lambda text: console.print(Text(text, style="cyan")))
    try:
        line.start()
        running.set()
        with Live(console=console, refresh_per_second=4) as live:
            line.run(lambda books: live.update(_status(books, plan)), stopping.is_set)
        summary = line.finish()
    finally:
        line.close()
    if as_json:
        typer.echo(json.dumps(summary.as_dict()))
    else:
        Console().print(_table(summary))
    for fault in summary.faults:
        console.print(Text(f"the books do not agree: {fault}", style="red"))
    raise typer.Exit(1 if summary.faults else 0)


def _status(books: Books, plan: DemoPlan) -> Text:
    """One line: what has come by so far."""
    of = f"/{plan.parts}" if plan.parts else ""
    return Text.assemble(
        (f"{books.product:8}", "bold"),
        f" part {books.parts}{of}  accepted ",
        (str(books.accepted), "green"),
        "  rejected ",
        (str(books.rejected), "red"),
        f"  (escapes {books.escapes}, false rejects {books.false_rejects}, no verdict in time {books.missing})",
        f"  {books.latency_ms['p50']:.0f} ms",
        "" if plan.parts else "  – Ctrl-C ends the demo",
    )


def _table(summary: DemoSummary) -> Table:
    table = Table(title="The line in numbers", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in summary.as_dict().items():
        shown = ", ".join(f"{key} {number}" for key, number in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), shown)
    return table
