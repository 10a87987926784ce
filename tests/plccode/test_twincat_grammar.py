"""An independent parser of TwinCAT's language reads the generated structured text without an error."""

from pathlib import Path

import pytest

from inspector.contract.plccode.generator import generate, write

blark_parse = pytest.importorskip("blark.parse", reason="blark is not installed (pip install -e '.[dev]')")


def faults(path: Path) -> list[str]:
    return [str(part.exception) for part in blark_parse.parse(path) if part.exception is not None]


def test_every_file_is_read(tmp_path: Path) -> None:
    for path in write("st", tmp_path):
        assert faults(path) == []


def test_a_file_with_a_slip_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "gate.st"
    path.write_text(generate("st")["vis1_5_gate.st"].replace("END_IF;", "ENDIF;", 1))

    assert faults(path)
