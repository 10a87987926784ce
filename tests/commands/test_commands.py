"""The command line as a stranger uses it: product, score, db, doctor; faults are sentences with exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspector import simulation
from inspector.commands import doctor
from inspector.config import Config
from inspector.images import encode_png

REPOSITORY = Path(__file__).parents[2]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"INSPECTOR_DATA_DIR": str(folder / "data"), "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, "-m", "inspector", *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
        timeout=200,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    for number, image in enumerate(simulation.draw_references("gear", 4)):
        (folder / f"{number}.png").write_bytes(encode_png(image))
    return folder


def test_a_product_is_taught_listed_activated_and_rolled_back(tmp_path: Path, good: Path) -> None:
    added = run(tmp_path, "product", "add", "gear", "--references", str(good), "--json")
    assert added.returncode == 0, added.stderr
    first: dict[str, Any] = json.loads(added.stdout)
    assert (first["status"], first["calibration"], first["n"], first["rev"]) == ("ready", "provisional", 4, 1)
    assert len(first["references"]) == 4

    assert run(tmp_path, "product", "activate", "gear").returncode == 0
    assert run(tmp_path, "product", "add", "gear", "--references", str(good), "--activate").returncode == 0
    back = run(tmp_path, "product", "rollback", "--json")
    assert json.loads(back.stdout)["rev"] == 1
    listed = json.loads(run(tmp_path, "product", "list", "--json").stdout)["products"]
    assert [(row["name"], row["active_rev"], len(row["recipes"])) for row in listed] == [("gear", 1, 2)]
    assert "provisional, n = 4" in run(tmp_path, "product", "show", "gear").stdout
    missing = run(tmp_path, "product", "activate", "nothing")
    assert (missing.returncode, "there are: gear" in missing.stderr) == (4, True)


def test_score_gives_numbers_maps_and_a_none_for_what_is_no_picture(tmp_path: Path, good: Path) -> None:
    suspects = tmp_path / "suspects"
    suspects.mkdir()
    (suspects / "a.png").write_bytes(encode_png(simulation.draw_part("gear", 1, 5, 1.0)[0]))
    (suspects / "b.png").write_text("not a picture")
    done = run(
        tmp_path,
        "score",
        "--references",
        str(good),
        "--json",
        str(tmp_path / "out.json"),
        "--maps",
        str(tmp_path / "maps"),
        str(suspects),
        str(good / "0.png"),
    )
    assert done.returncode == 1
    found = json.loads((tmp_path / "out.json").read_text())
    names = [Path(row["image"]).name for row in found["images"]]
    assert names == ["a.png", "b.png", "0.png"]
    assert found["images"][1]["verdict"] == "NONE"
    assert "not a picture" in found["images"][1]["error"]
    assert found["images"][2]["verdict"] == "OK"
    assert found["images"][0]["score"] > found["images"][2]["score"]
    keys = {"image", "score", "parts", "contributions", "threshold", "verdict", "regions", "placement"}
    assert set(found["images"][0]) == keys
    raw = np.load(tmp_path / "maps" / "a.npy")
    assert (raw.dtype, raw.shape) == (np.float32, (256, 256))
    assert (tmp_path / "maps" / "a.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["score", "--references", "EMPTY", "x.png"], 2, "holds no picture"),
        (["product", "add", "../x", "--references", "EMPTY"], 2, "product name"),
        (["product", "add", "x", "--references", "MISSING"], 2, "not a folder"),
        (["run", "--config", "BAD"], 2, "unknown key 'mqtt.prot'"),
        (["config", "check", "BAD"], 2, "bad.yaml:2"),
        (["db", "check"], 4, "inspector db upgrade"),
    ],
)
def test_a_fault_is_one_sentence_and_an_exit_code(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("mqtt:\n  prot: 1\n")
    places = {"EMPTY": "empty", "MISSING": "missing", "BAD": "bad.yaml"}
    done = run(tmp_path, *[str(tmp_path / places[word]) if word in places else word for word in arguments])

    assert done.returncode == code, done.stderr
    assert words in done.stderr


def test_db_upgrade_makes_the_database_and_doctor_says_what_is_missing(tmp_path: Path) -> None:
    assert json.loads(run(tmp_path, "db", "upgrade", "--json").stdout)["before"] is None
    assert run(tmp_path, "db", "check").returncode == 0
    (tmp_path / "c.yaml").write_text("mqtt: {port: 1}\n")
    done = run(tmp_path, "doctor", "--config", str(tmp_path / "c.yaml"), "--json")
    checks = {check["check"]: check for check in json.loads(done.stdout)["checks"]}

    assert done.returncode == 1
    assert {
        name: checks[name]["status"] for name in ("Python", "device", "encoder", "database", "camera")
    } == dict.fromkeys(("Python", "device", "encoder", "database", "camera"), "OK")
    assert checks["broker"]["status"] == "FAIL"
    assert checks["broker"]["advice"]
    assert checks["sparkplug"]["detail"] == "switched off"


def test_doctor_warns_of_a_sparkplug_broker_that_is_not_there() -> None:
    config = Config.model_validate({"sparkplug": {"enabled": True, "port": 1}})
    finding = doctor.CHECKS["sparkplug"](config)
    assert (finding.status, "127.0.0.1:1: cannot connect" in finding.detail) == ("WARN", True)
    assert "verdicts do not depend on it" in finding.advice
