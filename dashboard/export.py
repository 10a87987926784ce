"""Verdicts as files: JSON of one or many, CSV of many. No Streamlit here."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from dashboard import words
from dashboard.data import PartView
from inspector.store.schema import InspectionRow
from inspector.types import Verdict

CSV_FIELDS = (
    "id",
    "captured_at",
    "part",
    "trg",
    "seq",
    "camera",
    "verdict",
    "err",
    "score",
    "threshold",
    "latency_ms",
    "product",
    "rcp",
    "rev",
    "image_path",
    "map_path",
)
RISKY = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run such a text as a formula


def to_csv(parts: Sequence[PartView]) -> bytes:
    """One line for each verdict, times in UTC, numbers in full."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(CSV_FIELDS)
    for part in parts:
        writer.writerow([_cell(value) for value in _plain(part).values()])
    return file.getvalue().encode("utf-8")


def to_json(parts: Sequence[PartView]) -> bytes:
    """A list of objects with the columns of the CSV file."""
    return _dump([_plain(part) for part in parts])


def inspection_json(row: InspectionRow) -> bytes:
    """All that the database holds of one verdict."""
    return _dump(inspection_values(row))


def inspection_values(row: InspectionRow) -> dict[str, Any]:
    recipe = row.recipe
    names = (
        "id", "boot", "seq", "trg", "camera", "frame_id", "part", "err", "flg", "score", "threshold", "roi",
        "latency_ms", "acc", "rsn", "image_path", "map_path", "detail",
    )  # fmt: skip
    regions = (
        "x_px", "y_px", "width_px", "height_px", "area_px", "area_fraction", "centroid_x_px", "centroid_y_px", "peak",
        "peak_x_px", "peak_y_px", "mean_excess", "matches",
    )  # fmt: skip
    return {
        **{name: getattr(row, name) for name in names},
        "captured_at": row.captured_at.isoformat(),
        "verdict": Verdict(row.verdict).name,
        "error": words.error_words(row.err),
        "product": recipe.product.name if recipe else None,
        "rcp": recipe.product.rcp if recipe else None,
        "rev": recipe.rev if recipe else None,
        "encoder_fingerprint": recipe.encoder_fingerprint if recipe else None,
        "regions": [{name: getattr(region, name) for name in regions} for region in row.regions],
    }


def _plain(part: PartView) -> dict[str, Any]:
    values = {name: getattr(part, name) for name in CSV_FIELDS}
    return values | {"captured_at": part.captured_at.isoformat(), "verdict": part.verdict.name}


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(RISKY) else value


def _dump(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8")
