"""An independent parser of TwinCAT's language reads the generated structured text without an error.

Tables are cut to two elements: the parser (Earley's method) takes minutes on two hundred.
"""

import re
from pathlib import Path

import pytest

from inspector.contract.plccode.generator import generate

blark_parse = pytest.importorskip("blark.parse", reason="blark is not installed (pip install -e '.[dev]')")


def faults(path: Path, text: str) -> list[str]:
    path.write_text(re.sub(r":= \[[^\]]*\];", ":= [1, 2];", text), encoding="ascii")
    return [str(part.exception) for part in blark_parse.parse(path) if part.exception is not None]


@pytest.mark.parametrize("name", generate("st"))
def test_every_file_is_read(name: str, tmp_path: Path) -> None:
    assert faults(tmp_path / name, generate("st")[name]) == []


def test_a_file_with_a_slip_is_not_read(tmp_path: Path) -> None:
    text = generate("st")["vis1_4_read_result.st"]

    assert faults(tmp_path / "slip.st", text.replace("END_IF;", "ENDIF;", 1))
