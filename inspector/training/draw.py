"""Writes held-out drawn products as a data set in MVTec layout: what no training run of this project has ever seen.

``python -m inspector.training.draw OUT --products 12``; then ``inspector evaluate OUT``.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from inspector.errors import InspectorError, UsageError
from inspector.images import encode_png
from inspector.training.episodes import HELD_OUT_FROM
from inspector.training.products import ProductFamily
from inspector.types import ImageArray

SIDE_PX = 256
app = typer.Typer(add_completion=False, help="Draw a data set of held-out products.")


def write_product(folder: Path, index: int, *, references: int, queries: int) -> None:
    """Held-out product number `index` with `references` to train, `queries` good and `queries` bad to test, and masks.

    Raises:
        UsageError: the folder cannot be written.
    """
    family = ProductFamily(HELD_OUT_FROM + index)
    rng = np.random.default_rng([HELD_OUT_FROM, index])
    try:
        for number in range(references):
            _write(folder / "train" / "good" / f"{number:03d}.png", family.draw(rng, SIDE_PX))
        for number in range(queries):
            _write(folder / "test" / "good" / f"{number:03d}.png", family.draw(rng, SIDE_PX))
            bad = family.draw_defective(rng, SIDE_PX)
            _write(folder / "test" / "defect" / f"{number:03d}.png", bad.image)
            mask = np.repeat(bad.mask[:, :, None], 3, axis=2).astype(np.uint8) * 255
            _write(folder / "ground_truth" / "defect" / f"{number:03d}_mask.png", mask)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from error


def _write(path: Path, image: ImageArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="Folder that gets one folder for each product.")],
    products: Annotated[int, typer.Option(min=1, help="How many products.")] = 12,
    references: Annotated[int, typer.Option(min=1, help="Good pictures to draw references from.")] = 8,
    queries: Annotated[int, typer.Option(min=1, help="Good and bad test pictures, so many of each.")] = 10,
) -> None:
    """Draw a data set of held-out products in MVTec layout."""
    try:
        for index in track(range(products), "drawing"):
            write_product(out / f"product{index:03d}", index, references=references, queries=queries)
    except InspectorError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from error


if __name__ == "__main__":
    app()
