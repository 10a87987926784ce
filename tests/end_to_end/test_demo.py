"""The demo's books: what it says at its end can be counted in the database that it leaves."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PARTS = 30


def test_the_demo_keeps_books_that_agree(tmp_path: Path) -> None:
    environment = os.environ | {"INSPECTOR_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "inspector", "demo", "--parts", str(PARTS), "--no-dashboard", "--json"]
    done = subprocess.run(
        [*command, "--rate", "3"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
        timeout=280,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    books = json.loads(done.stdout)
    assert books["parts"] == books["published"] == books["stored"] == PARTS
    assert books["ok"] + books["ng"] + books["undecided"] + books["none"] == PARTS
    assert books["plc_accepted"] + books["plc_rejected"] == PARTS
    assert books["plc_accepted"] <= books["ok"]
    assert books["swaps"] == 2
    with sqlite3.connect(tmp_path / "demo" / "inspector.db") as database:
        assert database.execute("select count(*), count(distinct trg) from inspections").fetchone() == (PARTS, PARTS)
        assert database.execute("select count(distinct recipe_id) from inspections").fetchone() == (3,)
