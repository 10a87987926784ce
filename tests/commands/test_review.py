"""Labels, recalibration and the gate: what a person said of parts decides about thresholds and revisions."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from inspector.cli import app
from inspector.errors import NotApprovedError, UsageError
from inspector.images import encode_png
from inspector.simulation import draw_part, draw_references


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A station that knows one product from four references."""
    monkeypatch.setenv("INSPECTOR_DATA_DIR", str(tmp_path / "data"))
    _write(tmp_path / "refs", draw_references("gear", 4))
    assert run("product", "add", "gear", "-r", str(tmp_path / "refs")).exit_code == 0
    return tmp_path


def _write(folder: Path, images: object) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):  # type: ignore[var-annotated,arg-type]
        (folder / f"{number:03d}.png").write_bytes(encode_png(image))
    return folder


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def told(*words: str) -> dict[str, object]:
    result = run(*words, "--json")
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_confirmed_good_parts_lift_the_threshold_to_a_promise(station: Path) -> None:
    good = _write(station / "good", draw_references("gear", 24, seed=5)[4:])
    recipe = told("product", "recalibrate", "gear", "--good", str(good))
    assert (recipe["rev"], recipe["calibration"], recipe["n"]) == (2, "confirmed", 20)
    assert recipe["promise"]["rate"] == pytest.approx(1 / 21)  # type: ignore[index]
    assert recipe["promise"]["bound"] == pytest.approx(1 - 0.05 ** (1 / 20))  # type: ignore[index]
    assert "false rejects 4.8 % expected, at most 13.9 % (95 %)" in run("product", "show", "gear").output
    again = told("product", "recalibrate", "gear", "--false-rejects", "0.1", "--grey", "1.5")
    assert (again["calibration"], again["n"]) == ("conformal", 20)
    assert again["promise"]["reject_threshold"] > again["threshold"]  # type: ignore[index, operator]
    new_references = told("product", "add", "gear", "-r", str(station / "refs"))
    assert new_references["calibration"] == "conformal"  # the wish and the confirmed parts belong to the product


def test_a_wish_that_the_confirmed_parts_cannot_support_is_refused_with_the_number_that_would(station: Path) -> None:
    good = _write(station / "good", draw_references("gear", 14, seed=5)[4:])
    refused = run("product", "recalibrate", "gear", "--good", str(good), "--false-rejects", "0.01")
    assert refused.exit_code == 1
    assert "needs 99 confirmed good parts, but there are 10" in refused.output
    few = run("product", "add", "other", "-r", str(station / "refs"))
    assert few.exit_code == 0
    none = run("product", "recalibrate", "other", "--false-rejects", "0.1")
    assert none.exit_code == 1
    assert "at least 9 confirmed good parts" in none.output


def test_a_revision_that_would_let_a_confirmed_defect_pass_is_refused_until_someone_answers_for_it(
    station: Path,
) -> None:
    good_looking = _write(station / "defects", draw_references("gear", 6, seed=9)[4:])  # nobody can see these defects
    assert run("review", "import", "gear", str(good_looking), "--label", "defect", "--kind", "ghost").exit_code == 0
    recipe = told("product", "recalibrate", "gear")
    assert {escape["kind"] for escape in recipe["report"]["escapes"]} == {"ghost"}  # type: ignore[index]
    with pytest.raises(NotApprovedError, match="confirmed defects pass"):
        run("product", "activate", "gear")
    with pytest.raises(UsageError, match="needs a reason"):
        run("product", "activate", "gear", "--override", " ")
    assert run("product", "activate", "gear", "--override", "wrongly labelled").exit_code == 0


def test_a_confirmed_defect_among_the_references_is_refused_too(station: Path) -> None:
    run("review", "import", "gear", str(station / "refs"), "--label", "defect")
    recipe = told("product", "recalibrate", "gear")
    assert len(recipe["report"]["escapes"]) == 4  # type: ignore[arg-type, index]
    with pytest.raises(NotApprovedError, match="4 confirmed defects"):
        run("product", "activate", "gear")


def test_an_undecided_zone_without_confirmed_parts_is_refused_and_not_left_out(station: Path) -> None:
    refused = run("product", "recalibrate", "gear", "--grey", "1.5")
    assert refused.exit_code == 1
    assert "at least 9 confirmed good parts" in refused.output


def test_defects_that_are_seen_do_not_hinder_a_revision(station: Path) -> None:
    defects = _write(station / "defects", [draw_part("gear", 0, trigger, 1.0)[0] for trigger in range(8)])
    run("review", "import", "gear", str(defects), "--label", "defect")
    recipe = told("product", "recalibrate", "gear")
    assert recipe["report"]["confirmed_defects"] == 8  # type: ignore[index]
    if not recipe["report"]["escapes"]:  # type: ignore[index]
        assert run("product", "activate", "gear").exit_code == 0


def test_labels_go_out_and_come_in_again_with_their_regions(station: Path) -> None:
    pictures = _write(station / "pictures", draw_references("gear", 3, seed=3))
    (pictures / "labels.csv").write_text(
        "picture,label,kind,left,top,width,height,teaches,blind\n"
        "000.png,good,,,,,,0,1\n001.png,defect,scratch,0.1,0.2,0.3,0.4,0,0\n002.png,unusable,,,,,,0,0\n"
    )
    run("review", "import", "gear", str(pictures))
    run("review", "export", "gear", str(station / "out"))
    lines = (station / "out" / "labels.csv").read_text().splitlines()
    assert [line.split(",")[1:7] for line in lines[1:]] == [
        ["good", "", "", "", "", ""],
        ["defect", "scratch", "0.1", "0.2", "0.3", "0.4"],
        ["unusable", "", "", "", "", ""],
    ]
    assert len(list((station / "out").glob("*.png"))) == 3
    run("product", "add", "twin", "-r", str(station / "refs"))
    run("review", "import", "twin", str(station / "out"))
    assert told("review", "list", "twin") == {"good": 1, "defect": 1, "unusable": 1, "kinds": ["scratch"]}
    with pytest.raises(UsageError, match="exists"):
        run("review", "export", "gear", str(station / "out"))


def test_the_newest_label_of_a_picture_counts_and_the_older_ones_stay(station: Path) -> None:
    pictures = _write(station / "pictures", draw_references("gear", 2, seed=3))
    for label in ("defect", "good"):
        run("review", "import", "gear", str(pictures), "--label", label)
    assert told("review", "list", "gear") == {"good": 2, "defect": 0, "unusable": 0, "kinds": []}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("000.png,perfect,,,,,,0", "expected one of good"),
        ("000.png,good,scratch,,,,,0", "only a defect"),
        ("000.png,good,,0.1,0.1,0.1,0.1,0", "only a defect has a region"),
        ("000.png,defect,scratch,0.9,0.2,0.3,0.4,0", "fractions of the picture"),
        ("../000.png,good,,,,,,0", "not the name of a file"),
    ],
)
def test_a_list_of_labels_with_a_mistake_is_refused(station: Path, row: str, message: str) -> None:
    pictures = _write(station / "pictures", draw_references("gear", 1, seed=3))
    (pictures / "labels.csv").write_text(f"picture,label,kind,left,top,width,height,blind\n{row}\n")
    with pytest.raises(UsageError, match=message):
        run("review", "import", "gear", str(pictures))


def test_what_a_mark_teaches_goes_into_the_next_revision(station: Path) -> None:
    pictures = _write(station / "pictures", [draw_part("gear", 0, 3, 1.0)[0], draw_references("gear", 1, seed=8)[0]])
    (pictures / "labels.csv").write_text(
        "picture,label,kind,left,top,width,height,teaches,blind\n"
        "000.png,defect,scratch,0.3,0.3,0.4,0.4,1,0\n001.png,good,,0.4,0.4,0.1,0.1,1,0\n"
    )
    run("review", "import", "gear", str(pictures))
    recipe = told("product", "recalibrate", "gear")
    assert [one["lesson"] for one in recipe["report"]["lessons"]] == ["defect", "tolerated"]  # type: ignore[index]
    assert "taught by 000.png: defect" in run("product", "show", "gear").output


def test_a_confirmed_part_that_becomes_a_reference_counts_as_one_that_may_be_rejected(station: Path) -> None:
    """Else the highest of the confirmed scores would drop out, and the promise of the others would not be kept."""
    good = _write(station / "good", draw_references("gear", 16, seed=5)[4:])
    run("review", "import", "gear", str(good), "--label", "good")
    before = told("product", "recalibrate", "gear")
    (good / "000.png").rename(station / "refs" / "from the line.png")
    after = told("product", "add", "gear", "-r", str(station / "refs"))
    for recipe in (before, after):
        assert recipe["report"]["confirmed_good"] == 12  # type: ignore[index]
        assert (recipe["calibration"], recipe["n"]) == ("confirmed", 12)
    assert [recipe["promise"]["rate"] for recipe in (before, after)] == [1 / 13, 2 / 13]  # type: ignore[index]


def test_references_are_checked_before_they_enter(station: Path) -> None:
    pictures = list(draw_references("gear", 6, seed=2))
    pictures[4] = pictures[1]
    folder = _write(station / "candidates", pictures)
    result = run("references", "check", str(folder), "--json")
    assert result.exit_code == 1
    (found,) = json.loads(result.stdout)["findings"]
    assert (found["image"], found["kind"]) == ("004.png", "duplicate")
    assert run("references", "check", str(station / "refs")).output.strip().endswith("4 pictures, nothing is odd")
    added = told("product", "add", "gear", "-r", str(folder))
    assert added["findings"] == [found]


def test_a_revision_is_tried_against_defects_that_were_confirmed_after_it_was_built(station: Path) -> None:
    # Good parts that somebody calls defects surely score like good ones: the gate must see them, whenever they come.
    ghosts = _write(station / "ghosts", draw_references("gear", 3))
    assert run("product", "activate", "gear").exit_code == 0
    assert run("review", "import", "gear", str(ghosts), "--label", "defect", "--kind", "ghost").exit_code == 0
    with pytest.raises(NotApprovedError, match="would let 3 confirmed defects pass"):
        run("product", "activate", "gear")
    shown = told("product", "show", "gear")
    assert len(shown["recipes"][0]["report"]["escapes"]) == 3  # type: ignore[index]
    assert run("product", "activate", "gear", "--override", "they are good parts").exit_code == 0


def test_regions_of_interest_make_a_revision_of_their_own_and_are_kept(station: Path) -> None:
    recipe = told("product", "recalibrate", "gear", "--roi", "hub=0.4,0.4,0.2,0.2*2", "--roi", "-edge=0,0,1,0.1")
    assert [(roi["name"], roi["sensitivity"], roi["inspected"]) for roi in recipe["promise"]["rois"]] == [  # type: ignore[index]
        ("hub", 2.0, True),
        ("edge", 1.0, False),
    ]
    again = told("product", "add", "gear", "-r", str(station / "refs"))
    assert len(again["promise"]["rois"]) == 2  # type: ignore[index, arg-type]
    assert "region 0: hub" in run("product", "show", "gear").output
    whole = told("product", "recalibrate", "gear", "--whole")
    assert whole["promise"]["rois"] == []  # type: ignore[index]
    assert whole["threshold"] != recipe["threshold"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("hub", "expected NAME=left,top,width,height"), ("hub=0.9,0,0.5,1", "must lie in the picture")],
)
def test_a_region_that_cannot_be_read_is_refused(station: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run("product", "recalibrate", "gear", "--roi", text)
