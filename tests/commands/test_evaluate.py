"""`inspector evaluate`: numbers on the terminal and in the file, a run that goes on, and sentences for what is wrong."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from inspector.cli import app
from inspector.errors import UsageError
from tests.evaluation import sets


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_a_data_set_is_measured_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    sets.mvtec(tmp_path / "set" / "b")
    sets.mvtec(tmp_path / "set" / "a", masks=False)
    arguments = (tmp_path / "set", "--shots", "1,2", "--seeds", "0", "--json", tmp_path / "r.json")
    result = run(*arguments, "--report", tmp_path / "report")

    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "r.json").read_text())
    assert [(r["category"], r["shots"]) for r in told["results"]] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert {row["category"] for row in told["summary"]} == {"a", "b", "mean"}
    assert told["settings"]["encoder"] == "embedded"
    assert (tmp_path / "report" / "report.html").is_file()
    assert "I-AUROC" in result.output

    (tmp_path / "r.json").write_text(json.dumps(told | {"results": told["results"][:2]}))
    again = run(*arguments)
    assert "1 of 2 categories are done already" in again.output
    assert json.loads((tmp_path / "r.json").read_text())["results"] == told["results"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shots", "0"), "--shots is '0'"),
        (("--shots", "one"), "--shots is 'one'"),
        (("--seeds", "-1"), "--seeds is '-1'"),
        (("--shots", "9", "--seeds", "0"), "has 4 good pictures"),
        (("--format", "visa"), "layout 'visa'"),
    ],
)
def test_what_is_wrong_is_a_sentence(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    result = run(sets.mvtec(tmp_path / "a"), *arguments)
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
