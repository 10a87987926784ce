"""The results file: written after each category, so that a run that was broken off goes on where it stopped."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inspector.errors import UsageError
from inspector.evaluation.datasets import Category

METRICS = (
    "image_auroc",
    "image_ap",
    "image_f1max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1max",
    "aupro",
    "false_reject_rate",
    "escape_rate",
    "tnr_at_zero_escapes",
)
MEAN = "mean"
"""The category's name in the summary that stands for the mean over all categories."""


def file_list_hash(categories: Sequence[Category]) -> str:
    """SHA-256 over the names and sizes of all files, so that a changed data set is not mixed with an old result."""
    digest = hashlib.sha256()
    for category in categories:
        masks = [mask for picture in category.test for mask in picture.masks]
        for path in (*category.pool, *(picture.path for picture in category.test), *masks):
            size = path.stat().st_size if path.is_file() else -1
            digest.update(f"{category.name}/{path.parent.name}/{path.name}:{size}\n".encode())
    return digest.hexdigest()


def load(path: Path, settings: dict[str, Any], *, restart: bool) -> list[dict[str, Any]]:
    """Results of an earlier run with the same settings; empty if there is none, or if it is to be begun afresh.

    Raises:
        UsageError: the file is of other settings, or no results file.
    """
    if restart or not path.exists():
        return []
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        before, results = told["settings"], list(told["results"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a results file; choose another name, or --restart to write over it") from error
    wanted = json.loads(json.dumps(settings))  # as the file has them
    differing = sorted(key for key in wanted.keys() | before.keys() if wanted.get(key) != before.get(key))
    if differing:
        raise UsageError(
            f"{path}: made with another {', '.join(differing)}; choose another name, or --restart to begin afresh"
        )
    return results


def save(path: Path, settings: dict[str, Any], results: Sequence[dict[str, Any]]) -> None:
    """Write settings, results and summary; whole or not at all."""
    told = {"settings": settings, "summary": summarise(results), "results": list(results)}
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def summarise(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation over seeds by category and shots; then the mean over all categories."""
    categories = list(dict.fromkeys(result["category"] for result in results))
    every_shots = list(dict.fromkeys(result["shots"] for result in results))
    rows = []
    for name in (*categories, *([MEAN] if len(categories) > 1 else [])):
        for shots in every_shots:
            found = [r for r in results if r["shots"] == shots and name in (r["category"], MEAN)]
            if found:
                row: dict[str, Any] = {"category": name, "shots": shots, "seeds": len({r["seed"] for r in found})}
                rows.append(row | {metric: _over_seeds(found, metric) for metric in METRICS})
    return rows


def _over_seeds(results: Sequence[dict[str, Any]], metric: str) -> dict[str, float] | None:
    """Mean over categories within each seed first, then over seeds."""
    by_seed: dict[int, list[float]] = {}
    for result in results:
        if result[metric] is not None:
            by_seed.setdefault(result["seed"], []).append(result[metric])
    if not by_seed:
        return None
    values = [float(np.mean(each)) for each in by_seed.values()]
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}
