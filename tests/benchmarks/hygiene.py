"""Measure the findings about references: one defective picture planted among good ones, and sets of good ones only.

`python -m tests.benchmarks.hygiene cookie=DIR cube=DIR --hues cube=0,55,100,210 --drawn 40` draws eight good pictures of a
product by chance, once with a defective one among them and once without, and looks at what `check_scores` says. A DIR is
one category that `inspector evaluate` can read; `--drawn` adds held-out drawn products, whose defects have kind and size.
`--hues` makes one product of the pictures nearest to each hue, where a folder holds products that differ by colour.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from rich.progress import track

from inspector.config import EncoderConfig
from inspector.detection.bank import ResidualBank
from inspector.detection.detector import mutual_of
from inspector.detection.encoder import Encoder, load_encoder
from inspector.evaluation.datasets import read_categories, read_mask
from inspector.hygiene import Kind, check_scores
from inspector.images import read_image
from inspector.training.draw import SIDE_PX
from inspector.training.episodes import HELD_OUT_FROM
from inspector.training.products import ProductFamily
from inspector.types import ImageArray

SEEN = {Kind.OUTLIER, Kind.WRONG_PRODUCT}
DRAWN_PICTURES = 12
"""Good and bad pictures of a drawn product, so many of each."""
DRAWN_SEED = 7
COLOURED_PX = 0.02
"""The most coloured share of a picture tells its hue."""
SIZES = (0.002, 0.005, 0.02)
"""Upper ends of the classes of size, as a fraction of the picture's area."""


@dataclass(frozen=True)
class Bad:
    """A defective picture; `area` is its mask's share of the picture, None where no mask is known."""

    image: ImageArray
    kind: str
    area: float | None


@dataclass(frozen=True)
class Product:
    """Good and defective pictures of one product; `group` is the line of the table that it counts for."""

    name: str
    group: str
    good: list[ImageArray]
    bad: list[Bad]


@dataclass(frozen=True)
class Trial:
    """One draw: whether the defective picture was named, and how many good ones beside it and without it."""

    group: str
    product: str
    kind: str
    area: float | None
    found: bool
    alarms: int
    alarms_alone: int


def from_folder(name: str, root: Path) -> Product:
    """A category on disk: all its good pictures, and all its defective ones."""
    (category,) = read_categories(root)
    good = [*category.pool, *(picture.path for picture in category.test if not picture.is_bad)]
    bad = []
    for picture in category.test:
        if picture.is_bad:
            image = read_image(picture.path)
            masks = picture.masks
            area = (
                float(read_mask(masks, (image.shape[0], image.shape[1]), (SIDE_PX, SIDE_PX)).mean()) if masks else None
            )
            bad.append(Bad(image, picture.kind, area))
    return Product(name, name, [read_image(path) for path in dict.fromkeys(good)], bad)


def by_hue(whole: Product, hues: Sequence[float]) -> list[Product]:
    """One product of the pictures nearest to each hue (degrees)."""
    good, bad = [_nearest(one, hues) for one in whole.good], [_nearest(one.image, hues) for one in whole.bad]
    return [
        Product(
            f"{whole.name} at {hue:g}°",
            whole.group,
            [one for one, place in zip(whole.good, good, strict=True) if place == number],
            [one for one, place in zip(whole.bad, bad, strict=True) if place == number],
        )
        for number, hue in enumerate(hues)
    ]


def _nearest(image: ImageArray, hues: Sequence[float]) -> int:
    hsv = cv2.cvtColor(cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2HSV)
    coloured = hsv[..., 1].astype(np.float32) * hsv[..., 2]
    angle = 2.0 * np.deg2rad(hsv[..., 0][coloured >= np.quantile(coloured, 1.0 - COLOURED_PX)].astype(np.float32))
    mean = np.angle(np.exp(1j * angle).mean())
    return int(np.argmax([np.cos(mean - np.deg2rad(hue)) for hue in hues]))


def drawn(index: int) -> Product:
    """Held-out drawn product number `index`."""
    family, rng = ProductFamily(HELD_OUT_FROM + index), np.random.default_rng([DRAWN_SEED, index])
    good = [family.draw(rng, SIDE_PX) for _ in range(DRAWN_PICTURES)]
    bad = [family.draw_defective(rng, SIDE_PX) for _ in range(DRAWN_PICTURES)]
    faults = [Bad(one.image, one.kind, float(one.mask.mean())) for one in bad]
    return Product(f"drawn {index}", "drawn", good, faults)


def trials(encoder: Encoder, product: Product, count: int, good: int) -> Iterator[Trial]:
    """Draw `good` good pictures and one defective one, `count` times; trial number t is drawn with seed t.

    Each picture is encoded once; the defective ones are taken in a random order, so that each has its turn.
    """
    bank = ResidualBank.build(encoder, [*product.good, *(one.image for one in product.bad)])
    order = np.random.default_rng(count).permutation(len(product.bad))
    for seed in range(count):
        picked = np.random.default_rng(seed).permutation(len(product.good))[:good].tolist()
        number = int(order[seed % len(order)])
        named = _named(encoder, bank.only([*picked, len(product.good) + number]))
        alone = _named(encoder, bank.only(picked))
        bad = product.bad[number]
        hit = good in named
        yield Trial(product.group, product.name, bad.kind, bad.area, hit, len(named) - hit, len(alone))


def _named(encoder: Encoder, bank: ResidualBank) -> set[int]:
    return {finding.index for finding in check_scores(mutual_of(encoder, bank)) if finding.kind in SEEN}


def table(seen: Sequence[Trial], good: int, key: Callable[[Trial], str]) -> dict[str, dict[str, float]]:
    """Shares in percent, by what `key` says of a trial."""
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in seen:
        groups[key(trial)].append(trial)
    return {
        name: {
            "trials": len(some),
            "found": 100.0 * float(np.mean([one.found for one in some])),
            "alarms": 100.0 * sum(one.alarms for one in some) / (good * len(some)),
            "alarms_alone": 100.0 * sum(one.alarms_alone for one in some) / (good * len(some)),
        }
        for name, some in sorted(groups.items())
    }


def size_class(trial: Trial) -> str:
    """In what class of size its defect falls."""
    if trial.area is None:
        return "no mask"
    if trial.area > SIZES[-1]:
        return f"over {100 * SIZES[-1]:g} % of the area"
    return f"up to {100 * next(limit for limit in SIZES if trial.area <= limit):g} % of the area"


def main(
    data: Annotated[list[str] | None, typer.Argument(help="NAME=FOLDER of one category each.")] = None,
    hues: Annotated[list[str] | None, typer.Option(help="NAME=HUE,HUE…: products of that folder, by colour.")] = None,
    products: Annotated[int, typer.Option("--drawn", min=0, help="So many held-out drawn products.")] = 0,
    first: Annotated[int, typer.Option(min=0, help="Number of the first drawn product.")] = 0,
    per_group: Annotated[
        int, typer.Option("--trials", min=1, help="Trials of each group, shared by its products.")
    ] = 200,
    good: Annotated[int, typer.Option(min=2, help="Good pictures of a trial.")] = 8,
    out: Annotated[Path | None, typer.Option(help="Write all figures as JSON.")] = None,
) -> None:
    """Print shares found and false alarms as Markdown tables, in percent."""
    splits = dict(word.split("=") for word in hues or [])
    groups: list[list[Product]] = []
    for word in data or []:
        name, _, place = word.partition("=")
        whole = from_folder(name, Path(place))
        groups.append(by_hue(whole, [float(hue) for hue in splits[name].split(",")]) if name in splits else [whole])
    if products:
        groups.append([drawn(index) for index in range(first, first + products)])
    encoder = load_encoder(EncoderConfig())
    seen = [
        trial
        for group in groups
        for product in track(group, description=group[0].group)
        for trial in trials(encoder, product, -(-per_group // len(group)), good)
    ]
    figures = {"set": table(seen, good, lambda one: one.group)}
    figures["drawn or real"] = table(seen, good, lambda one: "drawn" if one.group == "drawn" else "real")
    made = [one for one in seen if one.group == "drawn"]
    figures |= {"kind of drawn defect": table(made, good, lambda one: one.kind)} if made else {}
    figures |= {"size of drawn defect": table(made, good, size_class)} if made else {}
    for title, rows in figures.items():
        typer.echo(
            f"\n| {title} | trials | found | good ones named beside it | named without it |\n|---|---|---|---|---|"
        )
        for name, row in rows.items():
            cells = " | ".join(f"{row[column]:.1f}" for column in ("found", "alarms", "alarms_alone"))
            typer.echo(f"| {name} | {row['trials']:.0f} | {cells} |")
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
