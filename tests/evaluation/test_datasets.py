"""Each layout is recognised, and what is missing is said in a sentence."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from inspector.errors import UsageError
from inspector.evaluation.datasets import read_categories, read_mask
from tests.evaluation import sets


def test_a_category_and_a_folder_of_categories_are_both_read(tmp_path: Path) -> None:
    sets.mvtec(tmp_path / "b")
    sets.mvtec(tmp_path / "a", kinds=("hole", "scratch"))

    assert [category.name for category in read_categories(tmp_path)] == ["a", "b"]
    (one,) = read_categories(tmp_path / "a")
    assert len(one.pool) == 4
    assert [picture.kind for picture in one.test] == ["good"] * 3 + ["hole"] * 2 + ["scratch"] * 2
    assert [len(picture.masks) for picture in one.test] == [0, 0, 0, 1, 1, 1, 1]
    assert one.has_masks
    assert [category.name for category in read_categories(tmp_path, only=["b"])] == ["b"]


def test_btad_calls_its_good_parts_ok(tmp_path: Path) -> None:
    sets.mvtec(tmp_path / "01", good="ok", kinds=("ko",))
    for layout in ("auto", "btad"):
        (one,) = read_categories(tmp_path, layout)
        assert [picture.is_bad for picture in one.test] == [False] * 3 + [True] * 2
    with pytest.raises(UsageError, match="no data set of the layout 'mvtec'"):
        read_categories(tmp_path, "mvtec")


def test_loco_has_a_folder_of_masks_for_each_picture(tmp_path: Path) -> None:
    sets.mvtec(tmp_path / "box", kinds=("logical_anomalies",))
    truth = tmp_path / "box" / "ground_truth" / "logical_anomalies"
    for number in range(2):
        (truth / f"{number:03d}_mask.png").rename(truth / "was.png")
        (truth / f"{number:03d}").mkdir()
        for name in ("000.png", "001.png"):
            shutil.copy(truth / "was.png", truth / f"{number:03d}" / name)
        (truth / "was.png").unlink()
    (one,) = read_categories(tmp_path, "loco")
    assert [len(picture.masks) for picture in one.test if picture.is_bad] == [2, 2]


def test_visa_is_read_by_its_table(tmp_path: Path) -> None:
    sets.visa(tmp_path)
    for layout in ("auto", "visa"):
        (one,) = read_categories(tmp_path, layout)
        assert (one.name, len(one.pool), [p.kind for p in one.test]) == ("cap", 3, ["anomaly", "good"])
        assert one.has_masks


def test_plain_folders_need_only_good_and_others(tmp_path: Path) -> None:
    sets.write(tmp_path / "good" / "1.png", sets.part(1)[0])
    sets.write(tmp_path / "bent" / "2.png", sets.part(2)[0])
    (one,) = read_categories(tmp_path)
    assert [path.name for path in one.pool] == ["1.png"]
    assert [(picture.kind, picture.masks) for picture in one.test] == [("good", ()), ("bent", ())]


def test_a_kind_without_a_folder_of_masks_has_none_and_a_single_missing_mask_is_named(tmp_path: Path) -> None:
    place = sets.mvtec(tmp_path / "a", kinds=("hole", "scratch"))
    shutil.rmtree(place / "ground_truth" / "scratch")
    (one,) = read_categories(place)
    assert [len(picture.masks) for picture in one.test if picture.is_bad] == [1, 1, 0, 0]
    (place / "ground_truth" / "hole" / "001_mask.png").unlink()
    with pytest.raises(UsageError, match=r"hole/001\.png: its mask is missing"):
        read_categories(place)


def test_what_is_no_data_set_is_said_in_a_sentence(tmp_path: Path) -> None:
    for call, words in (
        (lambda: read_categories(tmp_path / "nowhere"), "is not a folder"),
        (lambda: read_categories(tmp_path), "no data set of the layout 'auto'"),
        (lambda: read_categories(tmp_path, "coco"), "--format is 'coco'"),
        (lambda: read_categories(sets.mvtec(tmp_path / "a"), only=["z"]), "no category z; there are a"),
    ):
        with pytest.raises(UsageError, match=words):
            call()
    shutil.rmtree(tmp_path / "a" / "test")
    (tmp_path / "a" / "test").mkdir()
    with pytest.raises(UsageError, match="has no test pictures"):
        read_categories(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "train" / "good")
    (tmp_path / "a" / "train" / "good").mkdir()
    with pytest.raises(UsageError, match="no good pictures"):
        read_categories(tmp_path / "a")


def test_masks_are_united_and_brought_to_the_models_size(tmp_path: Path) -> None:
    left, right = np.zeros((40, 80, 3), np.uint8), np.zeros((40, 80, 3), np.uint8)
    left[:, :8], right[:, -8:] = 255, 1
    sets.write(tmp_path / "l.png", left)
    sets.write(tmp_path / "r.png", right)
    mask = read_mask((tmp_path / "l.png", tmp_path / "r.png"), (400, 800), (20, 20))
    assert mask.sum(axis=1).tolist() == [4] * 20
    assert read_mask((), (400, 800), (20, 20)).sum() == 0
    with pytest.raises(UsageError, match=r"has 80×40 px, its picture 800×300 px"):
        read_mask((tmp_path / "l.png",), (300, 800), (20, 20))
    (tmp_path / "x.png").write_text("no")
    with pytest.raises(UsageError, match="cannot be read"):
        read_mask((tmp_path / "x.png",), (300, 800), (20, 20))
