"""Writes the PLC program of one dialect: one file per block, in the order of their import.

May import the tables, the dialects and Jinja. The same models give the same bytes: no date, no machine, no path.
"""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from inspector import __version__
from inspector.contract.messages import U32_MAX
from inspector.contract.plccode import dialects
from inspector.contract.plccode.dialects import DIALECTS, Dialect, DialectName
from inspector.contract.plccode.tables import Number, models_hash, template_values
from inspector.errors import UsageError

BLOCKS = ("1_types", "2_read_text", "3_read_binary", "4_read_result", "5_gate")


def generate(name: DialectName) -> dict[str, str]:
    """Give the files of a dialect: text by file name."""
    dialect = DIALECTS[name]
    environment = _environment(dialect)
    values = template_values()
    return {
        f"vis1_{block}{dialect.suffix}": dialect.render(
            environment.get_template(f"{block}.st.j2").render(values) + "\n"
        )
        for block in BLOCKS
    }


def write(name: DialectName, folder: Path) -> list[Path]:
    """Write the files of a dialect into a folder, which is made if it is missing.

    Raises:
        UsageError: a file cannot be written.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file_name, text in generate(name).items():
            paths.append(folder / file_name)
            paths[-1].write_text(text, encoding="ascii", newline="\n")
    except OSError as error:
        raise UsageError(f"the PLC program cannot be written to {folder}: {error.strerror}") from error
    return paths


def banner() -> str:
    """The first line of each file: what made it, and from which models."""
    return f"(* Made by `inspector plc generate` {__version__} from models {models_hash()}: change those, not this file. *)"


def _environment(dialect: Dialect) -> Environment:
    environment = Environment(
        loader=PackageLoader("inspector.contract.plccode"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  # PLC text, no markup
        keep_trailing_newline=False,
    )
    environment.filters |= {
        "bytes_of": dialects.bytes_of,
        "in_part_characters": dialects.in_part_characters,
        "from_bits": dialects.from_bits,
        "udint": lambda value: f"UDINT#{value}",
        "byte": lambda value: f"16#{value:02X}",
        "word": lambda value: f"16#{value:04X}",
        "at_least_zero": lambda value: max(0, value),
        "below_zero": lambda value: max(0, -value),
        "lowest_bits": _lowest_bits,
        "highest_bits": _highest_bits,
    }
    environment.globals |= {
        "banner": banner(),
        "clock": dialect.clock,
        "clock_max": dialect.clock_max,
        "shift_right": dialect.shift_right,
    }
    return environment


def _lowest_bits(number: Number) -> int:
    return max(0, number.minimum)


def _highest_bits(number: Number) -> int:
    return U32_MAX if number.minimum < 0 else number.maximum
