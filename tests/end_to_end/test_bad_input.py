"""What is wrong is said in one sentence, or ends in NONE with its code; never in a traceback or a lost part."""

import json
import sqlite3
from pathlib import Path

import cv2
import numpy as np

from inspector import simulation
from inspector.contract.broker import free_port
from inspector.contract.codes import ErrorCode
from inspector.contract.messages import State
from inspector.detection import bank
from inspector.images import encode_png
from inspector.types import Verdict
from tests.brokers import Witness, wait_until
from tests.end_to_end.plant import START_S, Line


def _folder_camera(line: Line, folder: Path) -> None:
    line.values["cameras"] = [{"name": "folder", "kind": "folder", "source": str(folder), "period_s": 0.02}]


def _says(line: Line, exit_code: int, *words: str) -> None:
    worker = line.start()
    assert worker.wait(START_S) == exit_code
    last = line.log.strip().splitlines()[-1]
    assert last.startswith("inspector run: ")
    assert all(word in last for word in words), last
    assert "Traceback" not in line.log


def test_each_picture_of_a_folder_gets_a_verdict_and_an_unreadable_one_gets_none(line: Line, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(simulation.draw_references("flange", 3, 5)):
        (folder / f"{number}-good.png").write_bytes(encode_png(image))
    (folder / "3-text.png").write_text("this is no picture")
    (folder / "4-tiny.png").write_bytes(encode_png(np.zeros((1, 1, 3), np.uint8)))
    cv2.imwrite(str(folder / "5-grey.png"), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    cv2.imwrite(str(folder / "6-deep.png"), image[..., ::-1].astype(np.uint16) * 257)
    (folder / "7-empty.png").write_bytes(b"")
    (folder / "8-cut.png").write_bytes(encode_png(image)[:2000])
    _folder_camera(line, folder)
    line.values["images"] = {"save": "all"}
    witness = Witness(line.broker.port)
    worker = line.start()
    assert worker.wait(START_S) == 0
    wait_until(lambda: len(witness.of(line.topics.detail)) == 9)
    witness.close()
    rows = {row.part: row for row in line.rows()}
    assert len(rows) == 9
    bad = {"3-text", "4-tiny", "7-empty", "8-cut"}
    assert {part for part, row in rows.items() if row.verdict == Verdict.NONE} == bad
    assert {rows[part].err for part in bad} == {ErrorCode.FRAME_TIMEOUT}
    assert all(rows[part].score is not None for part in rows.keys() - bad)
    for part in rows.keys() - bad:
        kept = [rows[part].image_path, rows[part].map_path]
        assert all(path is not None and (line.config.data_path / path).stat().st_size > 0 for path in kept)
    assert "9 verdicts" in line.log
    assert "Traceback" not in line.log


def test_after_a_restart_pictures_that_do_not_fit_the_references_are_none_and_larger_ones_are_scored(
    line: Line, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    image = simulation.draw_references("flange", 1, 5)[0]
    pictures = {
        "0-half": image[::2, ::2],
        "1-cut": image[60:-60],
        "2-turned": np.rot90(image),
        "3-as-taught": image,
        "4-double": image.repeat(2, axis=0).repeat(2, axis=1),
    }
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(encode_png(np.ascontiguousarray(picture)))
    _folder_camera(line, folder)
    worker = line.start()
    assert worker.wait(START_S) == 0
    assert [(row.part, row.err, row.score is None) for row in line.rows()] == [
        ("0-half", ErrorCode.FRAME_TIMEOUT, True),
        ("1-cut", ErrorCode.FRAME_TIMEOUT, True),
        ("2-turned", ErrorCode.FRAME_TIMEOUT, True),
        ("3-as-taught", ErrorCode.NONE, False),
        ("4-double", ErrorCode.NONE, False),
    ]
    assert (
        "the picture has 320x240 px, the references 640x480 px; set the camera back" in line.rows()[0].detail["reason"]
    )
    assert "Traceback" not in line.log


def test_without_a_broker_all_parts_are_inspected_and_stored(line: Line, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(simulation.draw_references("flange", 3, 6)):
        (folder / f"{number}.png").write_bytes(encode_png(image))
    _folder_camera(line, folder)
    line.values["mqtt"]["port"] = free_port()
    worker = line.start()
    assert worker.wait(START_S) == 0
    rows = line.rows()
    assert len(rows) == 3
    assert all(row.verdict != Verdict.NONE for row in rows)
    assert line.outbox_size() == 6
    assert "Traceback" not in line.log


def test_a_camera_that_is_not_there_is_told_to_the_plc_and_taken_when_it_comes(line: Line, tmp_path: Path) -> None:
    _folder_camera(line, tmp_path / "nowhere")
    witness = Witness(line.broker.port)
    worker = line.start()

    def lost() -> bool:
        payloads = witness.of(line.topics.state)
        state = State.from_json(payloads[-1]) if payloads else None
        return state is not None and (state.st, state.err) == (3, ErrorCode.CAMERA_LOST)

    wait_until(lost, START_S)
    (tmp_path / "arriving").mkdir()
    (tmp_path / "arriving" / "1.png").write_bytes(encode_png(simulation.draw_references("flange", 1)[0]))
    (tmp_path / "arriving").rename(tmp_path / "nowhere")
    assert worker.wait(START_S) == 0
    witness.close()
    assert [row.part for row in line.rows()] == ["1"]
    assert "Traceback" not in line.log


def test_a_second_worker_of_a_station_is_refused_and_the_first_goes_on(line: Line) -> None:
    witness = Witness(line.broker.port)
    worker = line.start()
    wait_until(lambda: witness.of(line.topics.hb), START_S)
    _says(line, 7, "another worker", "station1")
    beats = len(witness.of(line.topics.hb))
    wait_until(lambda: len(witness.of(line.topics.hb)) > beats + 2)
    assert line.stop(worker) == 0
    witness.close()


def test_without_an_active_recipe_parts_get_none_401_and_the_station_says_initialized(line: Line) -> None:
    path = line.config.database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE stations SET active_recipe_id = NULL")
    with line.plc() as plc:
        worker = line.start()
        wait_until(lambda: plc.state is not None and plc.state.st == 4, START_S)
        plc.trigger("flange:00001")
        wait_until(line.rows)
        assert line.stop(worker) == 0
    assert [(row.verdict, row.err) for row in line.rows()] == [(Verdict.NONE, ErrorCode.NO_RECIPE)]


def _refuses_its_recipe(line: Line) -> None:
    """A worker that starts now does not become ready, says 402, and its parts are NONE."""
    with line.plc() as plc:
        worker = line.start()
        wait_until(lambda: plc.state is not None and plc.state.st == 4, START_S)
        assert plc.state is not None
        assert plc.state.err == ErrorCode.FINGERPRINT_MISMATCH
        plc.trigger("flange:00001")
        wait_until(line.rows)
        assert line.stop(worker) == 0
    assert [(row.verdict, row.err) for row in line.rows()] == [(Verdict.NONE, ErrorCode.FINGERPRINT_MISMATCH)]


def test_a_damaged_bank_is_not_used(line: Line) -> None:
    for tensors in line.config.data_path.glob("banks/*/*/bank.safetensors"):
        data = bytearray(tensors.read_bytes())
        data[-1] ^= 0xFF
        tensors.write_bytes(bytes(data))
    _refuses_its_recipe(line)
    assert "SHA-256" in line.log


def test_a_recipe_whose_golden_picture_scores_differently_is_not_used(line: Line) -> None:
    """As after an update of a driver or library that moves the numbers."""
    path = line.config.database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        for recipe_id, place in database.execute("SELECT id, bank_path FROM recipes").fetchall():
            manifest_path = line.config.data_path / place / bank.MANIFEST
            manifest = json.loads(manifest_path.read_text())
            manifest["golden"]["score"] *= 1.1
            manifest["sha256"] = bank._hash_of(manifest)
            manifest_path.write_text(json.dumps(manifest))
            database.execute("UPDATE recipes SET bank_sha256 = ? WHERE id = ?", (manifest["sha256"], recipe_id))
    _refuses_its_recipe(line)
    assert "the golden picture scores" in line.log


def test_a_database_of_a_newer_version_is_refused(line: Line) -> None:
    path = line.config.database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    _says(line, 4, "newer")


def test_without_settings_of_the_broker_a_wrong_configuration_ends_in_one_sentence(line: Line) -> None:
    line.values["mqtt"]["prot"] = 3
    _says(line, 2, "mqtt.prot")


def test_ctrl_c_while_the_worker_starts_ends_it_without_a_traceback(line: Line) -> None:
    worker = line.start()
    wait_until(lambda: "station" in line.log or worker.poll() is not None or _has_lock(line), START_S)
    worker.send_signal(2)
    assert worker.wait(START_S) in (0, 130)
    assert "Traceback" not in line.log


def _has_lock(line: Line) -> bool:
    return (line.config.data_path / "station1.lock").exists()
