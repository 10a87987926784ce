"""Uploads are judged by content, beside each other, and dropped by people only."""

import numpy as np
import pytest

from dashboard import uploads
from dashboard.uploads import Upload, judge, read_upload, safe_name, set_fault
from inspector import simulation
from inspector.images import encode_jpeg, encode_png

IMAGES = simulation.draw_references("gear", 3)


def pictures() -> list[Upload]:
    return [read_upload(f"{number}.png", encode_png(image)) for number, image in enumerate(IMAGES)]


def test_good_pictures_have_a_thumbnail_their_size_and_no_warning() -> None:
    judged = judge(pictures())

    assert [one.warnings for one in judged] == [(), (), ()]
    assert judged[0].upload.size_px == (640, 480)
    assert judged[0].upload.thumbnail


@pytest.mark.parametrize(
    ("data", "fault"),
    [(b"hello", "not a picture"), (b"", "empty"), (encode_png(IMAGES[0])[:3000], "damaged")],
)
def test_a_file_that_is_no_picture_is_named_as_such_whatever_its_name_says(data: bytes, fault: str) -> None:
    upload = read_upload("good.png", data)

    assert fault in upload.fault
    assert not upload.usable
    assert fault in judge([upload])[0].warnings[0]


def test_a_tiny_picture_is_refused() -> None:
    assert "too small" in read_upload("one.png", encode_png(np.zeros((1, 1, 3), np.uint8))).fault


def test_the_same_pixels_in_another_file_format_are_a_copy() -> None:
    first = IMAGES[0]
    lossless = uploads.read_upload("b.png", encode_png(first))
    judged = judge([read_upload("a.png", encode_png(first)), lossless, read_upload("c.jpg", encode_jpeg(first))])

    assert judged[1].warnings == ("the same picture as a.png",)
    assert judged[2].warnings == ("nearly the same picture as a.png: it adds nothing",)  # JPEG changes pixels


def test_the_picture_of_another_size_is_warned_about_and_not_the_majority() -> None:
    small = np.ascontiguousarray(IMAGES[0][::2, ::2])
    judged = judge([*pictures(), read_upload("small.png", encode_png(small))])

    assert [len(one.warnings) for one in judged[:3]] == [0, 0, 0]
    assert "320×240 px, the others have 640×480 px" in judged[3].warnings[0]


def test_a_black_picture_is_warned_about() -> None:
    black = read_upload("black.png", encode_png(np.zeros((480, 640, 3), np.uint8)))

    assert "mean grey level 0 of 255" in judge([black])[0].warnings[0]
    assert any("others' detail" in warning for warning in judge([*pictures(), black])[3].warnings)


def test_warnings_never_drop_a_picture_but_a_broken_one_holds_the_build_up() -> None:
    good, broken = pictures(), read_upload("text.png", b"text")
    copy = [*good, good[0]]

    assert set_fault(copy, copy) == ""
    assert "text.png" in set_fault([*good, broken], [*good, broken])
    assert set_fault([*good, broken], good) == ""


def test_sets_without_pictures_or_with_too_many_are_refused_with_what_to_do() -> None:
    good = pictures()

    assert "Choose pictures" in set_fault([], [])
    assert "keep at least one" in set_fault(good, [])
    many = good * 22
    assert f"At most {uploads.MAX_PICTURES}" in set_fault(many, many)


def test_a_file_over_the_limit_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_FILE_MB", 0)

    upload = read_upload("big.png", encode_png(IMAGES[0]))

    assert "larger than" in upload.fault
    assert upload.data == b""


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\parts\\a.png", "a.png"),
        ("a\x00\nb.png", "ab.png"),
        ("", "picture"),
        ("…/", "picture"),
    ],
)
def test_names_of_files_carry_no_folders_and_no_control_characters(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_kept_pictures_decode_to_the_pixels_that_were_uploaded() -> None:
    decoded = uploads.decode(pictures())

    assert [name for name, _ in decoded] == ["0.png", "1.png", "2.png"]
    assert all(np.array_equal(pixels, image) for (_, pixels), image in zip(decoded, IMAGES, strict=True))
