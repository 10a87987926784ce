"""Data sets on disk: which pictures may be references, which are tested, and where their masks lie.

Layouts: `mvtec` (also MPDD), `loco` (MVTec LOCO: a folder of masks per picture), `btad`, `visa` (its `1cls.csv`), and
`folder` (one folder `good`, every other folder is a kind of defect). Lists are sorted by name, never by the file system.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from inspector.errors import UsageError
from inspector.images import SUFFIXES

Layout = Literal["auto", "mvtec", "loco", "visa", "btad", "mpdd", "folder"]
LAYOUTS: tuple[str, ...] = get_args(Layout)
GOOD_NAMES = ("good", "ok")
MaskArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TestPicture:
    """A picture to test; `kind` is "good" or the kind of defect, `masks` are empty where none are known."""

    __test__ = False

    path: Path
    kind: str
    masks: tuple[Path, ...] = ()

    @property
    def is_bad(self) -> bool:
        """Whether it shows a defect."""
        return self.kind != "good"


@dataclass(frozen=True)
class Category:
    """One kind of object: the pool that references are drawn from, and the test.

    Where the pool is a part of the test (layout `folder`), a picture that became a reference is not tested.
    """

    name: str
    pool: tuple[Path, ...]
    test: tuple[TestPicture, ...]

    @property
    def has_masks(self) -> bool:
        """Whether any defect has a mask."""
        return any(picture.masks for picture in self.test)


def read_categories(root: Path, layout: str = "auto", only: Sequence[str] = ()) -> list[Category]:
    """The categories at `root`, which is one of them or a folder of several.

    Raises:
        UsageError: missing, of no known layout, without pictures, or a mask is missing.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"--format is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder; give a data set, or one category of it")
    found = list(_visa(root)) if layout in ("auto", "visa") and _visa_table(root) is not None else []
    if not found and layout != "visa":
        places = [root] if _is_category(root, layout) else [p for p in _folders(root) if _is_category(p, layout)]
        found = [_category(place) for place in places]
    if not found:
        raise UsageError(
            f"{root}: no data set of the layout {layout!r}. Known are train/good and test/KIND (mvtec, mpdd, loco), "
            "train/ok and test/ko (btad), split_csv/1cls.csv (visa), or good/ and other folders (folder)"
        )
    unknown = set(only) - {category.name for category in found}
    if unknown:
        known = ", ".join(category.name for category in found)
        raise UsageError(f"{root}: no category {', '.join(sorted(unknown))}; there are {known}")
    return [_checked(category, root) for category in found if not only or category.name in only]


def read_mask(paths: Sequence[Path], image_hw: tuple[int, int], wanted_hw: tuple[int, int]) -> MaskArray:
    """The union of masks of a picture of `image_hw` px, by nearest neighbour to `wanted_hw` px.

    Raises:
        UsageError: unreadable, or not of the picture's shape.
    """
    union = np.zeros(wanted_hw, np.bool_)
    for path in paths:
        mask = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise UsageError(f"{path}: the mask cannot be read")
        (high, wide), (height_px, width_px) = mask.shape, image_hw
        if abs(wide - high * width_px / height_px) > max(1.0, wide / height_px):  # as wide as its height asks for
            raise UsageError(
                f"{path}: the mask has {wide}×{high} px, its picture {width_px}×{height_px} px; they must have one shape"
            )
        union |= cv2.resize(mask, wanted_hw[::-1], interpolation=cv2.INTER_NEAREST) > 0
    return union


def _is_category(place: Path, layout: str) -> bool:
    is_split = any((place / "train" / name).is_dir() for name in GOOD_NAMES) and (place / "test").is_dir()
    wanted = {
        "mvtec": (place / "train" / "good").is_dir(),
        "mpdd": (place / "train" / "good").is_dir(),
        "loco": (place / "train" / "good").is_dir(),
        "btad": (place / "train" / "ok").is_dir(),
    }
    if layout == "folder":
        return not is_split and (place / "good").is_dir()
    if layout == "auto":
        return is_split or (place / "good").is_dir()
    return is_split and wanted.get(layout, False)


def _category(place: Path) -> Category:
    """A category whose folders say what is what."""
    train = next((place / "train" / name for name in GOOD_NAMES if (place / "train" / name).is_dir()), None)
    if train is None:
        good = _pictures(place / "good")
        bad = [folder for folder in _folders(place) if folder.name not in ("good", "ground_truth")]
        test = [TestPicture(path, "good") for path in good]
        return Category(place.resolve().name, tuple(good), (*test, *_defects(place, bad)))
    kinds = _folders(place / "test")
    good = [path for folder in kinds if folder.name in GOOD_NAMES for path in _pictures(folder)]
    bad = [folder for folder in kinds if folder.name not in GOOD_NAMES]
    test = [TestPicture(path, "good") for path in good]
    return Category(place.resolve().name, tuple(_pictures(train)), (*test, *_defects(place, bad)))


def _defects(place: Path, folders: Sequence[Path]) -> Iterator[TestPicture]:
    for folder in folders:
        truth = place / "ground_truth" / folder.name
        for path in _pictures(folder):
            yield TestPicture(path, folder.name, _masks(truth, path) if truth.is_dir() else ())


def _masks(truth: Path, picture: Path) -> tuple[Path, ...]:
    """The masks of a picture: a folder of its name, or a file of its name with or without `_mask`."""
    if (truth / picture.stem).is_dir():
        found = tuple(_pictures(truth / picture.stem))
    else:
        names = (f"{picture.stem}_mask", picture.stem)
        found = tuple(path for name in names for path in sorted(truth.glob(f"{name}.*")) if path.suffix in SUFFIXES)[:1]
    if not found:
        raise UsageError(f"{picture}: its mask is missing in {truth}; add it, or remove the folder of masks")
    return found


def _visa_table(root: Path) -> Path | None:
    table = root / "split_csv" / "1cls.csv"
    return table if table.is_file() else None


def _visa(root: Path) -> Iterator[Category]:
    table = _visa_table(root)
    if table is None:
        return
    rows: dict[str, list[dict[str, str]]] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if not {"object", "split", "label", "image"} <= row.keys():
                raise UsageError(f"{table}: expected the columns object, split, label, image and mask")
            rows.setdefault(row["object"], []).append(row)
    for name in sorted(rows):
        found = sorted(rows[name], key=lambda row: row["image"])
        pool = tuple(root / row["image"] for row in found if row["split"] == "train")
        test = []
        for row in found:
            if row["split"] == "test":
                mask = (root / row["mask"],) if row.get("mask") else ()
                test.append(TestPicture(root / row["image"], "good" if row["label"] == "normal" else "anomaly", mask))
        yield Category(name, pool, tuple(test))


def _checked(category: Category, root: Path) -> Category:
    if not category.pool:
        raise UsageError(f"{root}: category {category.name} has no good pictures to draw references from")
    if not category.test:
        raise UsageError(f"{root}: category {category.name} has no test pictures")
    return category


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES)
