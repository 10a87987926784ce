"""A full disk costs pictures, never a verdict: on a real small file system, and with numbers that are given."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.alarms import AlarmBoard
from edge.disk import MIB, QUIET_S, Ballast, DiskGuard, Watched
from inspector.contract.codes import ErrorCode
from inspector.errors import StoreError
from inspector.store import engine, stations

BALLAST = 4 * MIB
LIMIT = 6 * MIB


class Shelf:
    """Pictures of 1 MiB that can be removed one by one; space is counted, not used."""

    def __init__(self, folder: Path, free_bytes: int, pictures: int) -> None:
        self.folder, self.free_bytes, self.pictures = folder, free_bytes, pictures
        self.board = AlarmBoard(lambda: 0.0)
        self.ballast = Ballast(folder / "ballast", BALLAST)
        self.guard = DiskGuard(Watched(folder, [], LIMIT, self.make_room, self.free), self.ballast, self.board)

    def make_room(self, parts: int) -> int:
        gone = min(parts, self.pictures, 1)
        self.pictures -= gone
        self.free_bytes += gone * MIB
        return gone

    def free(self, _folder: Path) -> int:
        return self.free_bytes - (BALLAST if self.ballast.held else 0)

    @property
    def alarm(self) -> str:
        rows = self.board.message(1).alarms
        assert all(row.err == ErrorCode.DISK_LOW for row in rows)
        return rows[0].txt if rows else ""


def test_with_room_nothing_is_removed_and_the_ballast_is_held(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 40 * MIB, 5)
    shelf.guard.tick(0.0)
    assert (shelf.ballast.held, shelf.pictures, shelf.alarm, shelf.guard.full) == (True, 5, "", False)
    assert (tmp_path / "ballast").stat().st_size == BALLAST
    assert shelf.guard.status() == {"disk_free_bytes": 36 * MIB, "disk_low": False, "ballast_held": True}


def test_below_the_limit_pictures_go_until_there_is_room_and_the_alarm_stays_a_while(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 9 * MIB, 10)
    shelf.guard.tick(0.0)
    shelf.guard.tick(1.0)
    assert shelf.free_bytes - BALLAST >= LIMIT
    assert shelf.pictures < 10
    assert "pictures of good parts go first" in shelf.alarm
    left = shelf.pictures
    shelf.guard.tick(QUIET_S / 2)
    assert (shelf.pictures, shelf.alarm != "") == (left, True)
    shelf.guard.tick(2 * QUIET_S)
    assert (shelf.pictures, shelf.alarm, shelf.guard.low) == (left, "", False)


def test_a_full_disk_gets_the_ballast_and_no_pictures_until_there_is_room(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 12 * MIB, 0)
    shelf.guard.tick(0.0)
    assert shelf.ballast.held
    shelf.free_bytes = BALLAST + MIB // 2  # somebody else filled the disk
    shelf.guard.tick(1.0)
    assert (shelf.ballast.held, shelf.guard.full) == (False, True)
    assert shelf.guard.free_bytes == BALLAST + MIB // 2
    assert "the disk is full" in shelf.alarm
    shelf.guard.tick(2.0)
    assert not shelf.ballast.held, "what was given up is not taken back while it is needed"
    shelf.free_bytes = 40 * MIB
    shelf.guard.tick(3.0)
    assert (shelf.ballast.held, shelf.guard.full) == (True, False)
    shelf.guard.tick(3.0 + QUIET_S)
    assert shelf.alarm == ""


def test_a_disk_that_others_fill_is_told_also_when_there_is_no_picture_left(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 9 * MIB, 0)
    for turn in range(5):
        shelf.guard.tick(turn)
    assert (shelf.guard.low, shelf.pictures) == (True, 0)
    assert shelf.alarm


def test_a_limit_of_nothing_still_watches_for_a_full_disk(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 40 * MIB, 0)
    guard = DiskGuard(Watched(tmp_path, [], 0, shelf.make_room, shelf.free), shelf.ballast, shelf.board)
    guard.tick(0.0)
    shelf.free_bytes = BALLAST
    guard.tick(1.0)
    assert (guard.full, shelf.ballast.held) == (True, False)
    assert shelf.alarm


def test_the_disk_of_the_rows_counts_too(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    board = AlarmBoard(lambda: 0.0)
    free = {tmp_path: 90 * MIB, rows: 0}
    guard = DiskGuard(
        Watched(tmp_path, [rows], LIMIT, lambda _parts: 0, lambda folder: free[folder]),
        Ballast(tmp_path / "ballast", BALLAST),
        board,
    )
    guard.tick(0.0)
    assert (guard.full, guard.low, guard.free_bytes) == (True, True, 0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 16 MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root on Linux only")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_on_a_disk_that_is_full_to_the_last_byte_rows_can_be_written_again(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'inspector.db'}"
    engine.upgrade(url)
    store = engine.open_store(url)
    pictures = small_disk / "images"
    pictures.mkdir()
    board = AlarmBoard(lambda: 0.0)

    def make_room(parts: int) -> int:
        found = sorted(pictures.iterdir())[:parts]
        for path in found:
            path.unlink()
        return len(found)

    ballast = Ballast(small_disk / "ballast", BALLAST)
    guard = DiskGuard(Watched(small_disk, [], LIMIT, make_room), ballast, board)
    guard.tick(0.0)
    assert ballast.held

    def write(name: str) -> None:
        with store.write() as session:
            stations.ensure_station(session, name).status = {"text": name * 4000}

    other = small_disk / "somebody-elses"
    with other.open("wb", buffering=0) as file:
        while (left := guard.free_at(small_disk)) > 0:
            file.write(bytes(min(left, MIB)))
    with pytest.raises(StoreError, match=r"full|disk I/O"):
        write("before" * 1000)
    guard.tick(1.0)
    assert (ballast.held, guard.full) == (False, True)
    write("after")
    assert board.first is ErrorCode.DISK_LOW
    other.unlink()
    guard.tick(2.0)
    assert (ballast.held, guard.full) == (True, False)
    with store.read() as session:
        assert stations.get_station(session, 1)
    store.close()


def test_a_ballast_that_does_not_fit_leaves_nothing_behind(small_disk: Path) -> None:
    ballast = Ballast(small_disk / "ballast", 32 * MIB)
    with pytest.raises(OSError, match="No space"):
        ballast.make()
    assert not ballast.held
    assert list(small_disk.iterdir()) == []
