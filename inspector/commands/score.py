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

from inspector.commands.options import ConfigOption
from inspector.config import load_config
from inspector.errors import ImageError, UsageError
from inspector.images import encode_png, heat_map, list_images, read_image
from inspector.types import Verdict

if TYPE_CHECKING:
    from inspector.detection.detector import Detector

ReferencesOption = Annotated[Path, typer.Option("--references", "-r", help="Folder of pictures of good parts.")]
ImagesArgument = Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")]
JsonFileOption = Annotated[Path | None, typer.Option("--json", help="Write all numbers into this file.")]
MapsOption = Annotated[Path | None, typer.Option("--maps", help="Write raw maps (.npy) and heat maps (.png) here.")]


def score(
    images: ImagesArgument,
    references: ReferencesOption,
    config: ConfigOption = None,
    json_file: JsonFileOption = None,
    maps: MapsOption = None,
) -> None:
    """Score pictures against references of good parts; no database, broker or camera is needed.

    Exit codes: 0 every picture has a verdict, 1 a picture could not be scored (its verdict is NONE), 2 references or
    configuration are wrong, 3 encoder.

    Example: `inspector score --references good/ --json scores.json --maps maps/ suspects/`
    """
    from inspector.detection.detector import Detector
    from inspector.detection.encoder import load_encoder

    _make_folders(json_file, maps)
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
        )
    rows = []
    for path, stem in zip(track(paths, "scoring", console=errors, transient=True), _unique_stems(paths), strict=True):
        rows.append(_row(detector, path, maps / stem if maps is not None else None))
    if json_file is not None:
        json_file.write_text(json.dumps({"encoder": encoder.name, "images": rows}, indent=1), encoding="utf-8")
    calibration = detector.calibration
    _show(
        rows, f"threshold {calibration.threshold:.4f} ({calibration.kind}, n={calibration.n}), encoder {encoder.name}"
    )
    raise typer.Exit(1 if any(row["verdict"] == "NONE" for row in rows) else 0)


def _row(detector: "Detector", path: Path, target: Path | None) -> dict[str, Any]:
    """One picture's entry; an unreadable one is NONE with its reason."""
    try:
        image = read_image(path)
    except ImageError as error:
        return _unscored(detector, path, str(error))
    inspection = detector.inspect([image])[0]
    if target is not None:
        np.save(target.with_name(target.name + ".npy"), inspection.anomaly_map)
        picture = heat_map(inspection.anomaly_map, image, detector.pixel_threshold)
        target.with_name(target.name + ".png").write_bytes(encode_png(picture))
    if inspection.verdict is Verdict.NONE:
        return _unscored(detector, path, "the score is not a finite number; try encoder.precision fp32")
    return {
        "image": str(path),
        "score": inspection.score,
        "parts": asdict(inspection.parts),
        "threshold": inspection.threshold,
        "verdict": inspection.verdict.name,
        "regions": [asdict(region) for region in inspection.regions],
    }


def _unscored(detector: "Detector", path: Path, reason: str) -> dict[str, Any]:
    return {
        "image": str(path),
        "score": None,
        "parts": None,
        "threshold": detector.threshold,
        "verdict": Verdict.NONE.name,
        "regions": [],
        "error": reason,
    }


def _make_folders(json_file: Path | None, maps: Path | None) -> None:
    """Refuse what cannot be written before the work begins, not after it."""
    folders = [folder for folder in (maps, json_file.parent if json_file is not None else None) if folder is not None]
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
