"""The generated files: kept up to date, the same each time, and made from the models and nothing else."""

import re
from pathlib import Path

import pytest
from pydantic import Field
from typer.testing import CliRunner

from inspector import __version__
from inspector.cli import app
from inspector.contract.messages import Result
from inspector.contract.plccode import tables
from inspector.contract.plccode.dialects import DialectName
from inspector.contract.plccode.generator import generate, write
from inspector.errors import UsageError

KEPT = Path(__file__).parents[2] / "docs" / "plc"
DIALECT_NAMES: list[DialectName] = ["st", "scl"]


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_the_kept_files_are_what_the_models_give_now(dialect: DialectName) -> None:
    kept = {path.name: path.read_text(encoding="ascii") for path in (KEPT / dialect).iterdir()}

    assert kept == generate(dialect), f"run: inspector plc generate --dialect {dialect} --out docs/plc/{dialect}"


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_each_file_says_which_version_and_models_it_was_made_from(dialect: DialectName) -> None:
    for text in generate(dialect).values():
        assert text.startswith(f"(* Made by `inspector plc generate` {__version__} from models {tables.models_hash()}")
        assert text.isascii()
        assert "\r" not in text
        assert text.endswith(("END_TYPE\n", "END_FUNCTION_BLOCK\n"))


def test_a_model_that_changes_changes_the_hash_and_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(Result):
        res: int = Field(ge=0, le=9)

    before, program = tables.models_hash(), generate("st")
    Wider.__name__ = "Result"
    monkeypatch.setattr(tables, "MODELS", (Wider, *tables.MODELS[1:]))

    assert tables.models_hash() != before
    assert generate("st")["vis1_2_read_text.st"] != program["vis1_2_read_text.st"]


def test_scl_is_the_same_program_with_the_marks_of_siemens() -> None:
    for plain, siemens in zip(generate("st").values(), generate("scl").values(), strict=True):
        marks = r"#(?=[A-Z])|^BEGIN\n|^\{.*\}\n|^VERSION.*\n|(?<=END_STRUCT);|IN := |N := "
        stripped = re.sub(r'"(Vis1_\w+)"', r"\1", re.sub(marks, "", siemens, flags=re.MULTILINE))
        expected = re.sub(r"^(TYPE \w+) :$", r"\1", plain, flags=re.MULTILINE).replace("#", "")
        clock = ("TIME_TO_UDINT(TIME())", "DINT_TO_UDINT(TIME_TO_DINT(TIME_TCK()))")
        end = ("4294967295", "2147483647")
        for one, other in (clock, end):
            stripped, expected = stripped.replace(other, one), expected.replace(other, one)
        assert stripped.replace("#", "").split() == expected.split()


def test_the_command_writes_the_files_and_names_them(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plc", "generate", "--dialect", "scl", "--out", str(tmp_path / "new")])

    assert done.exit_code == 0
    assert done.output.split() == [str(tmp_path / "new" / name) for name in generate("scl")]
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == generate("scl")


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="cannot be written"):
        write("st", tmp_path / "file")
