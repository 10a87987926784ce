"""Alarms are raised and cleared by their cause, and confirming one does not make it go."""

from edge.alarms import AlarmBoard
from inspector.contract.codes import ErrorCode
from inspector.contract.messages import Alarms


def board() -> tuple[AlarmBoard, list[int]]:
    told: list[int] = []
    made = AlarmBoard(lambda: 1000.5)
    made.announce = lambda: told.append(len(made.message(1).alarms))
    return made, told


def test_an_alarm_stands_until_its_cause_is_gone() -> None:
    made, told = board()
    made.up(ErrorCode.CAMERA_LOST, "camera a is lost", "a")
    made.up(ErrorCode.CAMERA_LOST, "camera a is lost", "a")
    assert told == [1]
    assert made.first is ErrorCode.CAMERA_LOST
    assert made.confirm(101)
    (alarm,) = made.message(7).alarms
    assert (alarm.err, alarm.src, alarm.txt, alarm.since, alarm.conf) == (101, "a", "camera a is lost", 1000, 1)
    made.down(ErrorCode.CAMERA_LOST, "a")
    assert made.message(7).alarms == []
    assert made.first is ErrorCode.NONE
    assert told == [1, 1, 0]


def test_the_same_code_of_two_cameras_is_two_alarms() -> None:
    made, _ = board()
    made.up(ErrorCode.CAMERA_LOST, "lost", "a")
    made.up(ErrorCode.CAMERA_LOST, "lost", "b")
    made.down(ErrorCode.CAMERA_LOST, "a")
    assert [alarm.src for alarm in made.message(1).alarms] == ["b"]


def test_what_is_not_there_cannot_be_confirmed_nor_cleared() -> None:
    made, told = board()
    assert not made.confirm(702)
    made.down(ErrorCode.CHALLENGE_FAILED)
    assert told == []


def test_however_many_there_are_the_message_fits_and_is_ascii() -> None:
    made, _ = board()
    for number in range(40):
        made.up(ErrorCode.CAMERA_LOST, f"Kamera {number} für die Seite hängt " + "x" * 200, f"camera{number}")
    message = made.message(1)
    assert message.more == 40 - len(message.alarms) > 0
    data = message.to_json()
    assert len(data) <= 2048
    assert Alarms.from_json(data) == message
