"""`inspector score`: score pictures against a folder of references; no database, broker or camera."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from inspector.commands.evidence import sheet
from inspector.commands.options import (
    AlignOption,
    ConfigOption,
    FoundByOption,
    MaxShiftOption,
    MaxTurnOption,
    TilesOption,
    align_wish,
    tiles_wish,
)
from inspector.config import load_config
from inspector.errors import ImageError, UsageError
from inspector.images import encode_png, heat_map, list_images, read_image
from inspector.types import Fit, ImageArray, Inspection, Verdict

if TYPE_CHECKING:
    from inspector.detection.detector import Detector

ReferencesOption = Annotated[Path, typer.Option("--references", "-r", help="Folder of pictures of good parts.")]
ImagesArgument = Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")]
JsonFileOption = Annotated[Path | None, typer.Option("--json", help="Write all numbers into this file.")]
ExplainOption = Annotated[
    Path | None,
    typer.Option("--explain", help="Write a sheet (.png) for each rejected picture: what it was compared with."),
]
MapsOption = Annotated[Path | None, typer.Option("--maps", help="Write raw maps (.npy) and heat maps (.png) here.")]


def score(
    images: ImagesArgument,
    references: ReferencesOption,
    align: AlignOption = None,
    max_shift: MaxShiftOption = None,
    max_turn: MaxTurnOption = None,
    found_by: FoundByOption = None,
    tiles: TilesOption = None,
    config: ConfigOption = None,
    json_file: JsonFileOption = None,
    maps: MapsOption = None,
    explain: ExplainOption = None,
) -> None:
    """Score pictures against references of good parts; no database, broker or camera is needed.

    Exit codes: 0 every picture has a verdict, 1 a picture could not be scored (its verdict is NONE), 2 references or
    configuration are wrong, 3 encoder.

    Example: `inspector score --references good/ --json scores.json --maps maps/ --explain why/ suspects/`
    """
    from inspector.detection.detector import Detector
    from inspector.detection.encoder import load_encoder

    wish, seen_in = align_wish(align, max_shift, max_turn, found_by), tiles_wish(tiles)
    _make_folders(json_file, maps, explain)
    errors = Console(stderr=True)
    paths = [path for given in images for path in (list_images(given) if given.is_dir() else [given])]
    reference_paths = list_images(references)
    pictures = [read_image(path) for path in reference_paths]
    encoder = load_encoder(load_config(config).encoder)
    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task("building the bank", total=1.0)
        detector = Detector.from_references(
            encoder,
            pictures,
            names=[path.name for path in reference_paths],
            progress=lambda fraction, message: bar.update(task, completed=fraction, description=message),
            align=wish,
            tiles=seen_in,
        )
    rows = []
    for path, stem in zip(track(paths, "scoring", console=errors, transient=True), _unique_stems(paths), strict=True):
        try:
            image = read_image(path)
        except ImageError as error:
            rows.append(_unscored(detector, path, str(error)))
            continue
        inspection = detector.inspect([image])[0]
        if maps is not None:
            _write_map(maps / stem, inspection, image, detector.pixel_threshold)
        if explain is not None and inspection.regions:
            (explain / f"{stem}.png").write_bytes(encode_png(sheet(image, inspection, pictures, path.name)))
        rows.append(_row(detector, path, inspection))
    if json_file is not None:
        json_file.write_text(json.dumps({"encoder": encoder.name, "images": rows}, indent=1), encoding="utf-8")
    calibration = detector.calibration
    _show(
        rows, f"threshold {calibration.threshold:.4f} ({calibration.kind}, n={calibration.n}), encoder {encoder.name}"
    )
    raise typer.Exit(1 if any(row["verdict"] == "NONE" for row in rows) else 0)


def _row(detector: "Detector", path: Path, inspection: Inspection) -> dict[str, Any]:
    """One picture's entry."""
    place = inspection.placement
    if place is not None and place.fit is not Fit.FOUND:
        return _unscored(detector, path, place.reason) | {"placement": asdict(place)}
    if inspection.verdict is Verdict.NONE:
        return _unscored(detector, path, "the score is not a finite number; try encoder.precision fp32")
    return {
        "image": str(path),
        "score": inspection.score,
        "parts": asdict(inspection.parts),
        "contributions": inspection.contributions,
        "threshold": inspection.threshold,
        "verdict": inspection.verdict.name,
        "regions": [asdict(region) for region in inspection.regions],
        "placement": None if place is None else asdict(place),
    }


def _write_map(target: Path, inspection: Inspection, image: ImageArray, pixel_threshold: float) -> None:
    np.save(target.with_name(target.name + ".npy"), inspection.anomaly_map)
    picture = heat_map(inspection.anomaly_map, image, pixel_threshold)
    target.with_name(target.name + ".png").write_bytes(encode_png(picture))


def _unscored(detector: "Detector", path: Path, reason: str) -> dict[str, Any]:
    return {
        "image": str(path),
        "score": None,
        "parts": None,
        "contributions": None,
        "threshold": detector.threshold,
        "verdict": Verdict.NONE.name,
        "regions": [],
        "error": reason,
    }


def _make_folders(json_file: Path | None, *folders_or_none: Path | None) -> None:
    """Refuse what cannot be written before the work begins, not after it."""
    folders = [folder for folder in folders_or_none if folder is not None]
    if json_file is not None:
        folders.append(json_file.parent)
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: the folder cannot be made: {error.strerror}") from error


def _unique_stems(paths: list[Path]) -> list[str]:
    """A file name for each picture's maps: its stem, with a number where another picture already has it."""
    taken: set[str] = set()
    stems = []
    for path in paths:
        stem, number = path.stem, 1
        while stem.casefold() in taken:  # some file systems do not tell A from a
            number += 1
            stem = f"{path.stem}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _show(rows: list[dict[str, Any]], caption: str) -> None:
    table = Table(caption=caption, caption_justify="left")
    for column in ("picture", "score", "verdict", "regions"):
        table.add_column(column, justify="right" if column in ("score", "regions") else "left")
    colours = {"OK": "green", "NG": "red", "UNDECIDED": "yellow", "NONE": "magenta"}
    for row in rows:
        value = "–" if row["score"] is None else f"{row['score']:.4f}"
        verdict = f"[{colours[row['verdict']]}]{row['verdict']}[/]" + (f" {row['error']}" if "error" in row else "")
        table.add_row(Path(row["image"]).name, value, verdict, str(len(row["regions"])))
    Console().print(table)
