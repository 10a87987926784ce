"""`inspector challenge` and `inspector drift` without a worker: known parts, results, parts in doubt, override."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from inspector.cli import app
from inspector.commands import challenge
from inspector.config import load_config
from inspector.errors import NotFoundError, StationError, UsageError
from inspector.images import encode_png
from inspector.store import challenges, drift, engine, journal, products, stations
from inspector.store.engine import Store
from inspector.types import Calibration, Verdict
from tests import stored
from tests.store.test_store import record

NOW = datetime.now(UTC)
PICTURE = np.full((20, 30, 3), 7, np.uint8)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A station whose product gear is active, and two pictures beside it."""
    monkeypatch.setenv("INSPECTOR_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("golden-1", "golden-2"):
        (tmp_path / f"{name}.png").write_bytes(encode_png(PICTURE))
    (tmp_path / "data").mkdir()
    url = f"sqlite:///{tmp_path / 'data' / 'inspector.db'}"
    engine.upgrade(url)
    opened = engine.open_store(url)
    with opened.write() as session:
        station = stations.ensure_station(session, "station1")
        recipe = stored.request_recipe(
            session, tmp_path / "data", "gear", [("a.png", PICTURE)], station_id=station.id, who="me", now=NOW
        )
        products.mark_ready(
            session,
            recipe.id,
            bank_path="x",
            bank_sha256="ab",
            encoder=("e", "f"),
            calibration=Calibration("provisional", 4, 1.0, (0.5,)),
            report={},
            now=NOW,
        )
        stations.set_active_recipe(session, station.id, recipe.id, "me", NOW - timedelta(hours=5))
    return opened


def run(*words: str, command: str = "challenge") -> Result:
    return CliRunner().invoke(app, [command, *words], catch_exceptions=False)


def told(*words: str, command: str = "challenge") -> dict[str, object]:
    found: dict[str, object] = json.loads(run(*words, "--json", command=command).stdout)
    return found


def inspected(store: Store, *verdicts: Verdict) -> None:
    with store.write() as session:
        first = challenges.runs(session, 1)
        rows = [
            record(100 * len(first) + number, verdict, captured_at=datetime.now(UTC), recipe_id=1)
            for number, verdict in enumerate(verdicts, 1)
        ]
        journal.commit_verdicts(session, 1, rows)


def challenged(store: Store, result: str, fault: str = "") -> int:
    with store.write() as session:
        number = challenges.begin(session, 1, 1, 1, challenges.PARTS, "me", datetime.now(UTC))
        seen = [{"camera": "top", "verdict": 1, "seq": 1, "score": 0.4}]
        member = {"member": 1, "name": "crack", "expected": "defect", "kind": "crack", "fault": fault, "seen": seen}
        reason = f"crack: {fault}" if fault else ""
        challenges.end(session, number, result, reason, [member], datetime.now(UTC))
    return number


def test_known_parts_are_added_listed_and_removed(store: Store, tmp_path: Path) -> None:
    pictures = [str(tmp_path / f"golden-{number}.png") for number in (1, 2)]
    assert "has 2 parts" in run("add", "gear", *pictures, "--expected", "good").output
    assert (
        run("add", "gear", "--name", "master", "--expected", "defect", "--kind", "crack", "--part", "M-1").exit_code
        == 0
    )
    assert run("add", "gear", pictures[0], "--expected", "good", "--set", "2", "--name", "other").exit_code == 0
    parts: list[dict[str, object]] = told("list", "gear")["parts"]  # type: ignore[assignment]
    assert [(one["set"], one["name"], one["expected"], one["part"], one["path"] is not None) for one in parts] == [
        (1, "golden-1", "good", "", True),
        (1, "golden-2", "good", "", True),
        (1, "master", "defect", "M-1", False),
        (2, "other", "good", "", True),
    ]
    assert "no longer in challenge set 1" in run("remove", "gear", "golden-2").output
    assert "golden-2" not in run("list", "gear").output
    with pytest.raises(NotFoundError, match="there are: golden-1, master"):
        run("remove", "gear", "golden-2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--expected", "good"), "--name for a physical part"),
        (("golden-1.png", "golden-2.png", "--expected", "good", "--part", "P"), "for one part, but 2 pictures"),
        (("golden-1.png", "--expected", "fine"), "a known part is 'good' or 'defect'"),
        (("golden-1.png", "golden-1.png", "--expected", "good"), "the same name"),
    ],
)
def test_known_parts_that_make_no_sense_are_refused(
    store: Store, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run("add", "gear", *[str(tmp_path / word) if word.endswith(".png") else word for word in words])
    assert told("list", "gear")["parts"] == []


def test_a_challenge_needs_a_running_worker_and_says_how_to_start_one(store: Store) -> None:
    for words in (("run",), ("run", "--parts"), ("end",)):
        with pytest.raises(StationError, match="inspector run"):
            run(*words)
    with store.read() as session:
        assert challenges.runs(session, 1) == []


def test_results_name_what_was_judged_wrongly_and_what_holds_the_station(store: Store) -> None:
    assert "No challenge has been run yet" in run("results").output
    challenged(store, challenges.PASSED)
    challenged(store, challenges.FAILED, "a defect that was accepted")
    shown = run("results").output
    assert "crack: defect expected, OK (top)  <- a defect that was accepted" in shown
    assert "Challenge 2 holds the station" in shown
    assert [one["result"] for one in told("results")["challenges"]] == ["failed", "passed"]  # type: ignore[union-attr]
    assert "holds the station no longer" in run("override", "2", "--reason", "dirty part").output
    assert told("results")["held_by"] is None
    assert "overridden by" in run("results").output
    with pytest.raises(UsageError, match="has not failed"):
        run("override", "1", "--reason", "x")


def test_parts_in_doubt_are_listed_and_written_into_a_file(store: Store, tmp_path: Path) -> None:
    assert "No part is in doubt" in run("suspects").output
    challenged(store, challenges.PASSED)
    inspected(store, Verdict.OK, Verdict.NG, Verdict.OK)
    failed = challenged(store, challenges.FAILED, "not seen")
    found = told("suspects", "--csv", str(tmp_path / "out.csv"))
    assert found["reason"] == f"challenge {failed} failed"
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trg"] for row in rows] == ["101", "103"]
    assert rows[0]["product"] == "gear"
    assert "2 accepted parts are in doubt" in run("suspects", str(failed)).output
    with pytest.raises(UsageError, match="puts no part in doubt"):
        run("suspects", "1")
    with pytest.raises(UsageError, match="cannot be written"):
        run("suspects", "--csv", str(tmp_path / "missing" / "out.csv"))


def test_an_overdue_challenge_puts_parts_in_doubt(store: Store, tmp_path: Path) -> None:
    inspected(store, Verdict.OK)
    (tmp_path / "late.yaml").write_text("challenge: {every_h: 1}\n")
    found = told("suspects", "--config", str(tmp_path / "late.yaml"))
    assert "overdue since" in str(found["reason"])
    assert len(found["parts"]) == 1  # type: ignore[arg-type]
    challenged(store, challenges.PASSED)
    assert told("suspects", "--config", str(tmp_path / "late.yaml")) == {"reason": "", "parts": []}


def test_drift_shows_the_last_points_with_their_causes(store: Store) -> None:
    assert "No parts were compared in the last 24 h" in run(command="drift").output
    with store.write() as session:
        for hours, err, cause in ((30, 0, ""), (2, 0, ""), (1, 204, "the light has changed: mean grey level 97")):
            point = drift.Point(
                1, NOW - timedelta(hours=hours), 100, 0.48, err, cause, {"level": 97.0, "detail": 800.0}
            )
            drift.add_point(session, 1, point)
    assert [one["err"] for one in told(command="drift")["points"]] == [0, 204]  # type: ignore[union-attr]
    assert len(told("--hours", "48", command="drift")["points"]) == 3  # type: ignore[arg-type]
    assert "the light has changed" in " ".join(run(command="drift").output.split())


def test_waiting_for_a_worker_that_has_ended_ends_with_a_sentence(store: Store) -> None:
    with store.write() as session:
        number = challenges.begin(session, 1, 1, 1, challenges.PICTURES, "me", NOW)
        stations.set_status(session, 1, {}, NOW - timedelta(seconds=challenge.AWAY_S + 1))
    with pytest.raises(StationError, match="has ended; challenge 1 proves nothing"):
        challenge._outcome(load_config(None), store, number)
