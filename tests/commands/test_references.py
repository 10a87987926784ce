"""What a person decides about references, by the command line: keep, drop, add."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from inspector.cli import app
from inspector.config import load_config
from inspector.errors import NotFoundError, UsageError
from inspector.images import encode_png
from inspector.simulation import draw_references
from inspector.store import engine
from inspector.store.schema import Audit


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A station whose product was taught with the same picture twice."""
    monkeypatch.setenv("INSPECTOR_DATA_DIR", str(tmp_path / "data"))
    pictures = [*draw_references("flange", 3), draw_references("flange", 2)[1]]
    (tmp_path / "refs").mkdir()
    for number, image in enumerate(pictures):
        (tmp_path / "refs" / f"{number:03d}.png").write_bytes(encode_png(image))
    assert run("product", "add", "flange", "-r", str(tmp_path / "refs")).exit_code == 0
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def told(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*words, "--json").stdout)
    return found


def revisions() -> list[dict[str, Any]]:
    recipes: list[dict[str, Any]] = told("product", "show", "flange")["recipes"]
    return recipes


def audited() -> list[tuple[str, str]]:
    store = engine.open_store(load_config(None).database_url)
    try:
        with store.read() as session:
            rows = session.scalars(select(Audit).where(Audit.action.in_(("keep_reference", "drop_reference"))))
            return [(row.action, row.detail["image"]) for row in rows]
    finally:
        store.close()


def test_a_kept_reference_names_who_kept_it_and_is_not_asked_about_again(station: Path) -> None:
    (found,) = revisions()[0]["findings"]
    assert (found["image"], found["kind"]) == ("003.png", "duplicate")
    assert run("references", "keep", "flange", "003.png").exit_code == 0
    (found,) = revisions()[0]["findings"]
    assert found["accepted"]["who"]
    assert found["accepted"]["at"].startswith("20")
    assert not any(reference["warning"] for reference in revisions()[0]["references"])
    assert audited() == [("keep_reference", "003.png")]
    with pytest.raises(UsageError, match="nothing to accept"):
        run("references", "keep", "flange", "003.png")

    again = told("product", "recalibrate", "flange")
    assert again["rev"] == 2
    assert again["findings"] == [found]  # accepted before, so accepted here
    assert "warning" not in run("product", "show", "flange").output


def test_a_dropped_reference_is_missing_in_a_new_revision_and_stays_in_the_old_one(station: Path) -> None:
    run("product", "activate", "flange")
    fresh = told("references", "drop", "flange", "003.png")
    assert (fresh["rev"], fresh["status"], fresh["findings"]) == (2, "ready", [])
    assert [one["name"] for one in fresh["references"]] == ["000.png", "001.png", "002.png"]
    assert len(revisions()[0]["references"]) == 4
    assert told("product", "list")["products"][0]["active_rev"] == 1
    assert audited() == [("drop_reference", "003.png")]


def test_a_reference_is_found_by_its_name_or_its_hash_and_what_is_unknown_is_refused(station: Path) -> None:
    sha256 = revisions()[0]["references"][0]["sha256"]
    assert told("references", "drop", "flange", sha256[:10])["references"][0]["name"] == "001.png"
    with pytest.raises(NotFoundError, match=r"its references are: 001.png"):
        run("references", "keep", "flange", "nothing.png")
    with pytest.raises(NotFoundError, match="there is no product"):
        run("references", "drop", "bracket", "001.png")


def test_the_only_reference_cannot_be_dropped(station: Path) -> None:
    for name in ("003.png", "002.png", "001.png"):
        assert run("references", "drop", "flange", name).exit_code == 0
    with pytest.raises(UsageError, match="only reference"):
        run("references", "drop", "flange", "000.png")


def test_a_part_that_is_not_of_the_product_is_not_added(station: Path) -> None:
    with pytest.raises(NotFoundError):
        run("references", "add", "flange", "99")
