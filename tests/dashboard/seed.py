"""A database and pictures as a line leaves them after some hours, made from the simulated line, without a model.

`python -m tests.dashboard.seed FOLDER` writes `FOLDER/config.yaml` and all it needs; tests use the functions.
Scores follow the drawn truth, so that pages show what a working line shows.
"""

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import yaml
from sqlalchemy.orm import Session

from inspector import simulation
from inspector.config import Config, load_config
from inspector.contract.codes import ErrorCode, StationState
from inspector.images import encode_jpeg, heat_map, shrink
from inspector.store import challenges, drift, engine, journal, products, stations
from inspector.store.engine import Store
from inspector.store.journal import VerdictRecord
from inspector.store.schema import Recipe
from inspector.types import Calibration, ImageArray, PatchMatch, Region, Verdict
from tests import stored

SEED, DEFECT_RATE, THRESHOLD = 7, 0.14, 0.412
ENCODER = ("embedded convnet 224", "5e1f" * 16)
TAKE_S = 2.0


@dataclass(frozen=True)
class Scene:
    """A seeded plant."""

    config: Config
    config_path: Path
    store: Store
    station_id: int


def empty(folder: Path, *, port: int = 8501) -> Scene:
    """A plant on its first day: an upgraded database with a station and nothing else."""
    path = folder / "config.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    values = {"data_dir": str(folder / "data"), "station": {"name": "line1"}, "dashboard": {"port": port}}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    config = load_config(path)
    engine.upgrade(config.database_url)
    store = engine.open_store(config.database_url)
    with store.write() as session:
        station = stations.ensure_station(session, "line1")
        stations.next_boot(session, station.id)
    return Scene(config, path, store, station.id)


def alive(scene: Scene, state: StationState = StationState.CONTINUOUS_EXECUTION, **changes: object) -> None:
    """The worker's sign of life, as of now."""
    status = {"st": int(state), "mode": 0, "err": 0, "queue": 0, "frame_age_s": 0.4, "broker_connected": True}
    with scene.store.write() as session:
        stations.set_status(session, scene.station_id, status | changes, datetime.now(UTC))


def teach(scene: Scene, name: str, kind: str, *, now: datetime, pictures: int = 8, ready: bool = True) -> Recipe:
    """A revision of a product, built unless `ready` is False."""
    images = [
        (f"{kind}-{number:02d}.png", image) for number, image in enumerate(simulation.draw_references(kind, pictures))
    ]
    with scene.store.write() as session:
        recipe = stored.request_recipe(
            session, scene.config.data_path, name, images, station_id=scene.station_id, who="dashboard", now=now
        )
        if ready:
            _finish(session, recipe, pictures, now + timedelta(seconds=9))
    return recipe


def _finish(session: Session, recipe: Recipe, pictures: int, now: datetime) -> None:
    scores = np.random.default_rng(recipe.rev).normal(0.33, 0.022, pictures)
    scores[-1] = 0.455 if recipe.rev == 1 else scores[-1]
    for reference, score in zip(recipe.references, scores, strict=True):
        reference.score = float(score)
        reference.warning = "unlike the others: it may show a defect" if score > THRESHOLD else ""
    products.mark_ready(
        session,
        recipe.id,
        bank_path=f"banks/{recipe.product.rcp}/{recipe.rev}",
        bank_sha256="ab" * 32,
        encoder=ENCODER,
        calibration=Calibration("provisional", pictures, THRESHOLD + 0.01 * recipe.rev, tuple(map(float, scores))),
        report={},
        now=now,
    )


def activate(scene: Scene, recipe: Recipe, now: datetime) -> None:
    with scene.store.write() as session:
        stations.set_active_recipe(session, scene.station_id, recipe.id, "dashboard", now)


def inspect(scene: Scene, recipe: Recipe, kind: str, triggers: range, last: datetime, *, pictures: int) -> None:
    """Verdicts at `triggers`, one each two seconds, the last one at `last`; the newest `pictures` keep theirs."""
    records, kept = [], {}
    for trigger in triggers:
        keep = trigger >= triggers.stop - pictures
        record, pair = _verdict(
            recipe, kind, trigger, last - (triggers.stop - 1 - trigger) * timedelta(seconds=TAKE_S), keep
        )
        records.append(record)
        if pair is not None:
            kept[trigger] = pair
    with scene.store.write() as session:
        committed = journal.commit_verdicts(session, scene.station_id, records)
        for record, row in zip(records, committed, strict=True):
            if record.trg in kept:
                paths = [f"images/{record.trg:06d}{suffix}.jpg" for suffix in ("", "-map")]
                for path, image in zip(paths, kept[record.trg], strict=True):
                    file = scene.config.data_path / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(encode_jpeg(image))
                journal.set_image_paths(session, row.inspection_id, paths[0], paths[1])


def _verdict(
    recipe: Recipe, kind: str, trigger: int, at: datetime, keep: bool
) -> tuple[VerdictRecord, tuple[ImageArray, ImageArray] | None]:
    """One part: its truth decides the score; some parts come too late, some lie on the edge."""
    rng = np.random.default_rng((SEED, trigger))
    threshold = recipe.threshold or THRESHOLD
    bad = simulation.truth(SEED, trigger, DEFECT_RATE) is not None
    late, edge = trigger % 97 == 0, trigger % 41 == 0
    score = float(rng.normal(0.61, 0.07) if bad else rng.normal(0.335, 0.02))
    verdict = Verdict.NG if score >= threshold else Verdict.OK
    if edge:
        score, verdict = threshold - 0.004, Verdict.UNDECIDED
    regions: tuple[Region, ...] = ()
    pair = None
    if keep:
        image, mask = simulation.draw_part(kind, SEED, trigger, DEFECT_RATE)
        field = _anomaly_map(mask, rng, threshold)
        regions = _regions(mask) if verdict is Verdict.NG else ()
        small = shrink(image, 1024)
        pair = (small, heat_map(field, small, threshold))
    detail = {
        "parts": {"visual_map": score * 0.93, "text_map": None, "residual_map": None},
        "branches": ["visual"],
        "contributions": {"visual": score},
        "encoder": ENCODER[0],
        "timings_ms": {"queue": float(rng.uniform(1, 9)), "infer": float(rng.normal(31, 3)), "commit": 0.8},
        "image_size_px": [simulation.WIDTH_PX, simulation.HEIGHT_PX],
    }
    record = VerdictRecord(
        boot=1,
        seq=trigger,
        trg=trigger,
        camera="camera1",
        frame_id=trigger,
        part=f"{kind}:{trigger:06d}",
        verdict=int(Verdict.NONE if late else verdict),
        err=int(ErrorCode.DEADLINE_MISSED if late else ErrorCode.NONE),
        flg=1,
        recipe_id=recipe.id,
        score=None if late else score,
        threshold=None if late else threshold,
        roi=0,
        latency_ms=1012.0 if late else float(rng.normal(48, 5)),
        captured_at=at,
        detail=detail,
        regions=() if late else regions,
    )
    return record, None if late else pair


def _anomaly_map(mask: np.ndarray | None, rng: np.random.Generator, threshold: float) -> np.ndarray:
    """What a detector would see: low everywhere, high at the defect."""
    field = cv2.GaussianBlur(rng.random((224, 224)).astype(np.float32), (0, 0), 9)
    field = threshold * (0.25 + 0.4 * (field - field.min()) / np.ptp(field))
    if mask is not None:
        spot = cv2.GaussianBlur(cv2.resize(mask.astype(np.float32), (224, 224)), (0, 0), 5)
        field = field + 1.5 * threshold * spot / max(float(spot.max()), 1e-6)
    return field.astype(np.float32)


def _matches(x: float, y: float) -> tuple[PatchMatch, ...]:
    """Two levels, two references each, near to the place itself."""
    side = 1 / 16
    box = (min(x, 1 - side), min(y, 1 - side), side, side)
    return tuple(
        PatchMatch(tap, box, reference, box, weight, 0.9 - 0.1 * reference)
        for tap in (1, 2)
        for reference, weight in ((0, 0.75), (1, 0.25))
    )


def _regions(mask: np.ndarray | None) -> tuple[Region, ...]:
    if mask is None:
        return ()
    count, _, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    found = [(stats[i], centres[i]) for i in range(1, count) if stats[i][4] >= 12][:5]
    return tuple(
        Region(
            x_px=int(box[0]),
            y_px=int(box[1]),
            width_px=int(box[2]),
            height_px=int(box[3]),
            area_px=int(box[4]),
            area_fraction=float(box[4]) / mask.size,
            centroid_x_px=float(centre[0]),
            centroid_y_px=float(centre[1]),
            peak=0.81,
            mean_excess=0.22,
            peak_x_px=float(centre[0]),
            peak_y_px=float(centre[1]),
            matches=_matches(centre[0] / mask.shape[1], centre[1] / mask.shape[0]),
        )
        for box, centre in found
    )


def known_parts(scene: Scene, recipe: Recipe, kind: str, now: datetime) -> None:
    """Three good parts and two defects in challenge set 1 of a product, with pictures, and one without."""
    good = [(f"golden-{n}", "good", "", image) for n, image in enumerate(simulation.draw_references(kind, 3, seed=4))]
    bad = [
        (f"{name}-{n}", "defect", name, simulation.draw_part(kind, 3, n, 1.0)[0])
        for n, name in enumerate(("scratch", "stain"))
    ]
    with scene.store.write() as session:
        product = products.get_recipe(session, recipe.id).product
        for name, expected, which, image in [*good, *bad, ("master", "good", "", None)]:
            known = challenges.Known(name, expected, which, "MASTER-1" if image is None else "")
            stored.add_member(
                session, scene.config.data_path, product, known, set_no=1, image=image, who="engineer", now=now
            )


def challenge(scene: Scene, recipe: Recipe, fault: str, began: datetime, *, mode: str = challenges.PICTURES) -> int:
    """A challenge with set 1 that has ended a minute later; with a `fault`, its last part was judged wrongly."""
    with scene.store.write() as session:
        number = challenges.begin(session, scene.station_id, recipe.id, 1, mode, "schedule", began)
        there = challenges.members(session, products.get_recipe(session, recipe.id).product_id, 1)
        kept = [one for one in there if one.path]
        records = [
            {
                "member": one.id,
                "name": one.name,
                "expected": one.expected,
                "kind": one.kind,
                "fault": fault if one is kept[-1] else "",
                "seen": [
                    {
                        "camera": "challenge",
                        "verdict": 1 if one.expected == challenges.GOOD or (fault and one is kept[-1]) else 2,
                        "seq": one.id,
                        "score": 0.3,
                    }
                ],
            }
            for one in kept
        ]
        result = challenges.FAILED if fault else challenges.PASSED
        reason = f"{kept[-1].name}: {fault}" if fault else ""
        challenges.end(session, number, result, reason, records, began + timedelta(minutes=1))
    return number


def drifting(scene: Scene, recipe: Recipe, now: datetime, *, hours: int = 12) -> None:
    """Points of the last hours, and light that fails in the last two of them."""
    rng = np.random.default_rng(SEED)
    with scene.store.write() as session:
        drift.keep_run_in(session, scene.station_id, recipe.id, [{}], now - timedelta(hours=hours))
        for minute in range(0, hours * 60, 5):
            fading = max(0.0, (minute - (hours - 2) * 60) / 120)
            measures = {"level": 120 - 25 * fading, "detail": 800.0 + rng.normal(0, 9), "novelty": 0.01}
            dark = fading > 0.2
            point = drift.Point(
                recipe_id=recipe.id,
                at=now - timedelta(minutes=hours * 60 - minute),
                parts=min(100, minute),
                p_mean=float(0.5 - 0.42 * fading + rng.normal(0, 0.02)) if minute > 30 else None,
                err=int(ErrorCode.LIGHT_DRIFT) if dark else 0,
                cause="the light has changed: mean grey level 97, was 120" if dark else "",
                measures=measures | {"level": measures["level"] + rng.normal(0, 0.6)},
            )
            drift.add_point(session, scene.station_id, point)


def busy(folder: Path, *, parts: int = 400, pictures: int = 60, port: int = 8501) -> Scene:
    """A line in the middle of a shift: two products, one of them in its second revision, one being built."""
    now = datetime.now(UTC)
    scene = empty(folder, port=port)
    first = teach(scene, "flange", "flange", now=now - timedelta(hours=30))
    activate(scene, first, now - timedelta(hours=29))
    gear = teach(scene, "gear", "gear", now=now - timedelta(hours=20), pictures=12)
    activate(scene, gear, now - timedelta(hours=19))
    second = teach(scene, "flange", "flange", now=now - timedelta(hours=3), pictures=10)
    activate(scene, second, now - timedelta(hours=2))
    gears = parts // 4
    inspect(scene, gear, "gear", range(1, gears + 1), now - timedelta(hours=2, minutes=5), pictures=4)
    inspect(scene, second, "flange", range(gears + 1, parts + 1), now, pictures=pictures)
    alive(scene)
    return scene


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", type=int, default=400)
    parser.add_argument("--port", type=int, default=8501)
    arguments = parser.parse_args()
    scene = busy(arguments.folder, parts=arguments.parts, port=arguments.port)
    blister = teach(scene, "blister", "blister", now=datetime.now(UTC), ready=False)
    with scene.store.write() as session:
        products.set_progress(session, blister.id, 0.45, "encode references")


if __name__ == "__main__":
    main()
