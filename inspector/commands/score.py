"""`inspector score`: score pictures against a folder of references; no database, broker or camera."""

import json
from dataclasses import asdict, dataclass
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
from inspector.types import Align, Fit, ImageArray, Inspection, Tiles, Verdict

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
    wish, seen_in = align_wish(align, max_shift, max_turn, found_by), tiles_wish(tiles)
    _make_folders(json_file, maps, explain)
    paths = [path for given in images for path in (list_images(given) if given.is_dir() else [given])]
    good = [(path.name, read_image(path)) for path in list_images(references)]
    detector = _built(config, good, wish, seen_in)
    evidence = _Evidence(maps, explain, [image for _, image in good], detector.pixel_threshold)
    named = zip(paths, _unique_stems(paths), strict=True)
    rows = [
        _scored(detector, path, stem, evidence)
        for path, stem in track(named, "scoring", total=len(paths), console=Console(stderr=True), transient=True)
    ]
    encoder, calibration = detector.encoder.name, detector.calibration
    if json_file is not None:
        json_file.write_text(json.dumps({"encoder": encoder, "images": rows}, indent=1), encoding="utf-8")
    _show(rows, f"threshold {calibration.threshold:.4f} ({calibration.kind}, n={calibration.n}), encoder {encoder}")
    raise typer.Exit(1 if any(row["verdict"] == "NONE" for row in rows) else 0)


@dataclass(frozen=True)
class _Evidence:
    """What is written beside the numbers, and where; None: not wanted. `references` are what parts are compared with."""

    maps: Path | None
    explain: Path | None
    references: list[ImageArray]
    pixel_threshold: float

    def write(self, stem: str, path: Path, image: ImageArray, inspection: Inspection) -> None:
        """The map of a picture, and a sheet if it is rejected, both under the name `stem`."""
        if self.maps is not None:
            _write_map(self.maps / stem, inspection, image, self.pixel_threshold)
        if self.explain is not None and inspection.regions:
            drawn = sheet(image, inspection, self.references, path.name)
            (self.explain / f"{stem}.png").write_bytes(encode_png(drawn))


def _built(
    config: Path | None, good: list[tuple[str, ImageArray]], align: Align | None, tiles: Tiles | None
) -> "Detector":
    """The detector of named pictures of good parts, with the configured encoder."""
    from inspector.detection.detector import Detector
    from inspector.detection.encoder import load_encoder

    encoder = load_encoder(load_config(config).encoder)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("building the bank", total=1.0)
        return Detector.from_references(
            encoder,
            [image for _, image in good],
            names=[name for name, _ in good],
            progress=lambda fraction, message: bar.update(task, completed=fraction, description=message),
            align=align,
            tiles=tiles,
        )


def _scored(detector: "Detector", path: Path, stem: str, evidence: _Evidence) -> dict[str, Any]:
    """One picture's entry; its evidence is written under the name `stem`."""
    try:
        image = read_image(path)
    except ImageError as error:
        return _unscored(detector, path, str(error))
    inspection = detector.inspect([image])[0]
    evidence.write(stem, path, image, inspection)
    return _row(detector, path, inspection)


def _row(detector: "Detector", path: Path, inspection: Inspection) -> dict[str, Any]:
    """What an inspection says, as an entry."""
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
