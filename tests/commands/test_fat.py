"""`inspector fat`: progress for people, one object for programs, a report on paper, and exit codes that mean something."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from inspector.cli import app
from inspector.contract.virtual_plc import VirtualPlc
from inspector.errors import UsageError
from inspector.fat.opponents import VirtualOpponent

pytestmark = pytest.mark.any_payload  # broken messages are sent on purpose


def fat(*words: str) -> Result:
    return CliRunner().invoke(app, ["fat", *words], catch_exceptions=False)


def test_a_pass_is_exit_code_0_with_one_object_and_a_report(tmp_path: Path) -> None:
    out = tmp_path / "fat.html"
    done = fat("--only", "duplicate", "--only", "boot", "--json", "--out", str(out))

    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert (told["passed"], told["failed"]) == (True, 0)
    assert [fault["name"] for fault in told["faults"]] == ["duplicate", "boot change"]
    assert all(fault["passed"] and fault["safe_s"] > 0 and fault["bad_accepted"] == 0 for fault in told["faults"])
    assert "[1/2] duplicate" in done.stderr
    assert "Passed: 2 of 2 faults passed; no bad part was accepted." in out.read_text(encoding="utf-8")


def test_no_answer_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VirtualPlc, "_send_receipt", lambda *_: None)
    monkeypatch.setattr(VirtualOpponent, "first_part_s", 0.5)
    done = fat("--only", "duplicate")

    assert done.exit_code == 1
    assert "Unknown: no answer: the PLC triggered parts, but sent no receipt on disp." in done.stdout


def test_faults_of_the_user_are_one_sentence_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add --plc real"):
        fat("--host", "10.0.0.5")
    with pytest.raises(UsageError, match="no fault has 'earthquake' in its name; there are: broker killed"):
        fat("--only", "earthquake")
    with pytest.raises(UsageError, match="cannot be written"):
        fat("--out", str(tmp_path / "nowhere" / "fat.html"))
    with pytest.raises(UsageError, match="--prefix"):
        fat("--plc", "real", "--prefix", "plant/#")
