"""Products, their recipe revisions, and the pictures they are made from."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from inspector.errors import NotFoundError, StoreError, UsageError
from inspector.store.pictures import Picture
from inspector.store.schema import Audit, Product, Recipe, ReferenceImage
from inspector.types import MAX_ROIS, Align, Calibration, Roi, Tiles, align_of, roi_of

MAX_U16 = 65_535
MAX_REFERENCES = 200
NAME = re.compile(r"^[^\W_][\w .+-]{0,63}$")


@dataclass(frozen=True)
class Wish:
    """What the operator wants of a revision: rate of false rejects, width of the undecided zone, where it is inspected,
    whether each part is aligned before, and whether it is seen in tiles.
    """

    target: float | None = None
    grey: float = 0.0
    rois: tuple[Roi, ...] = ()
    align: Align | None = None
    tiles: Tiles | None = None

    def __post_init__(self) -> None:
        names = [roi.name for roi in self.rois]
        if len(names) > MAX_ROIS:
            raise UsageError(f"a product has at most {MAX_ROIS} regions of interest, but {len(names)} were given")
        if len(set(names)) != len(names):
            raise UsageError(f"the names of regions of interest must differ, but are {', '.join(names)}")


def check_name(name: str) -> str:
    """A product's name, stripped.

    Raises:
        UsageError: empty, over 64 characters, or with characters other than letters, digits, blank . + - _
    """
    name = name.strip()
    if not NAME.match(name):
        raise UsageError(
            f"product name {name!r}: expected 1 to 64 letters, digits, blanks, '.', '+', '-' or '_', a letter or digit first"
        )
    return name


def request_recipe(
    session: Session,
    name: str,
    pictures: Sequence[Picture],
    *,
    station_id: int | None,
    who: str,
    now: datetime,
    status: str = "queued",
    wish: Wish | None = None,
) -> Recipe:
    """Store pictures (`pictures.staged`) as a new revision of a product, made if it is new; the station's worker builds it.

    `wish` is what the operator wants of the revision; None takes over what the one before it was given.

    Raises:
        UsageError: a bad name, no picture or more than 200.
        StoreError: a picture cannot be put in its place.
    """
    name = check_name(name)
    if not 1 <= len(pictures) <= MAX_REFERENCES:
        raise UsageError(f"a recipe needs 1 to {MAX_REFERENCES} references, but {len(pictures)} were given")
    product = session.scalar(select(Product).where(Product.name == name)) or _new_product(session, name, now)
    last = session.scalar(select(Recipe).where(Recipe.product_id == product.id).order_by(Recipe.rev.desc()).limit(1))
    last_rev = 0 if last is None else last.rev
    if wish is None:
        wish = Wish() if last is None else wish_of(last)
    recipe = Recipe(
        product=product,
        rev=_u16(last_rev + 1, "revisions"),
        status=status,
        progress=0.0,
        message="waits for the worker",
        station_id=station_id,
        calibration=asdict(wish),
        created_at=now,
        created_by=who,
    )
    session.add(recipe)
    folder = Path("references") / str(product.rcp) / str(recipe.rev)
    for position, picture in enumerate(pictures):
        path = picture.move_to(folder / f"{position:03d}-{picture.sha256[:8]}.png")
        recipe.references.append(ReferenceImage(position=position, name=picture.name, path=path, sha256=picture.sha256))
    session.add(
        Audit(at=now, who=who, action="teach", detail={"product": name, "rev": recipe.rev, "references": len(pictures)})
    )
    session.flush()
    return recipe


def last_wish(session: Session, name: str) -> Wish:
    """What the operator wanted of the newest revision of a product; nothing if there is none."""
    newest = select(Recipe).join(Product).where(Product.name == name.strip()).order_by(Recipe.rev.desc()).limit(1)
    last = session.scalar(newest)
    return Wish() if last is None else wish_of(last)


def wish_of(recipe: Recipe) -> Wish:
    """What the operator wanted of a revision."""
    kept = recipe.calibration
    rois = tuple(roi_of(record) for record in kept.get("rois") or [])
    tiles = None if kept.get("tiles") is None else Tiles(**kept["tiles"])
    return Wish(kept.get("target"), kept.get("grey") or 0.0, rois, align_of(kept.get("align")), tiles)


def add_escapes(session: Session, recipe_id: int, escapes: Sequence[dict[str, Any]]) -> None:
    """Confirmed defects, labelled after a revision was built, that it would let pass."""
    recipe = get_recipe(session, recipe_id)
    known = {escape["label"] for escape in recipe.report.get("escapes", [])}
    fresh = [escape for escape in escapes if escape["label"] not in known]
    recipe.report = recipe.report | {"escapes": [*recipe.report.get("escapes", []), *fresh]}


def escapes_of(recipe: Recipe) -> list[dict[str, Any]]:
    """Confirmed defects that this revision would let pass; it must not be activated while there are any.

    Empty once an engineer has overridden the gate with a reason.
    """
    return [] if recipe.report.get("override") else list(recipe.report.get("escapes", []))


def override(session: Session, recipe_id: int, reason: str, who: str, now: datetime) -> None:
    """Let a revision be activated although confirmed defects would pass; audited.

    Raises:
        UsageError: no reason.
    """
    if not reason.strip():
        raise UsageError("an override needs a reason, which is kept with the name of who gave it")
    recipe = get_recipe(session, recipe_id)
    detail = {"product": recipe.product.name, "rev": recipe.rev, "reason": reason, "escapes": escapes_of(recipe)}
    recipe.report = recipe.report | {"override": {"who": who, "reason": reason, "at": now.isoformat()}}
    session.add(Audit(at=now, who=who, action="override", detail=detail))


def _new_product(session: Session, name: str, now: datetime) -> Product:
    rcp = (session.scalar(select(func.max(Product.rcp))) or 0) + 1
    product = Product(rcp=_u16(rcp, "products"), name=name, created_at=now)
    session.add(product)
    session.flush()
    return product


def _u16(value: int, what: str) -> int:
    if value > MAX_U16:
        raise StoreError(f"the contract with the PLC has room for {MAX_U16} {what}; there are no more")
    return value


def list_products(session: Session) -> list[Product]:
    """All products by name, with their revisions."""
    return list(session.scalars(select(Product).options(selectinload(Product.recipes)).order_by(Product.name)))


def find_product(session: Session, name: str) -> Product:
    product = session.scalar(select(Product).where(Product.name == name.strip()))
    if product is None:
        known = ", ".join(session.scalars(select(Product.name).order_by(Product.name))) or "none yet"
        raise NotFoundError(f"there is no product {name!r}; there are: {known}")
    return product


def find_recipe(session: Session, rcp: int, rev: int | None = None) -> Recipe | None:
    """A ready revision of the product with that index; the newest one without `rev`. None if there is none."""
    query = select(Recipe).join(Product).where(Product.rcp == rcp, Recipe.status == "ready")
    if rev is not None:
        query = query.where(Recipe.rev == rev)
    return session.scalar(query.order_by(Recipe.rev.desc()).limit(1))


def newest_revision(session: Session, product_id: int) -> Recipe | None:
    """The newest revision that did not fail, built or still to be built; None if there is none."""
    query = select(Recipe).where(Recipe.product_id == product_id, Recipe.status != "failed")
    return session.scalar(query.order_by(Recipe.rev.desc()).limit(1))


def revision_with(session: Session, product_id: int, reference: str) -> Recipe | None:
    """The first revision, not failed, that has a reference of this file name; None if there is none."""
    query = select(Recipe).where(Recipe.product_id == product_id, Recipe.status != "failed")
    query = query.where(Recipe.references.any(ReferenceImage.name == reference))
    return session.scalar(query.order_by(Recipe.rev).limit(1))


def get_recipe(session: Session, recipe_id: int) -> Recipe:
    recipe = session.get(Recipe, recipe_id)
    if recipe is None:
        raise NotFoundError(f"there is no recipe {recipe_id}")
    return recipe


def next_queued(session: Session, station_id: int) -> Recipe | None:
    """The oldest recipe that waits to be built here, or that a killed worker left half built."""
    query = select(Recipe).where(Recipe.station_id == station_id, Recipe.status.in_(("queued", "building")))
    return session.scalar(query.order_by(Recipe.id).limit(1))


def set_progress(session: Session, recipe_id: int, progress: float, message: str) -> None:
    recipe = get_recipe(session, recipe_id)
    recipe.status, recipe.progress, recipe.message = "building", progress, message


def mark_failed(session: Session, recipe_id: int, message: str) -> None:
    recipe = get_recipe(session, recipe_id)
    recipe.status, recipe.message = "failed", message


def mark_ready(
    session: Session,
    recipe_id: int,
    *,
    bank_path: str,
    bank_sha256: str,
    encoder: tuple[str, str],
    calibration: Calibration,
    report: dict[str, Any],
    now: datetime,
) -> None:
    """The bank is built; `encoder` is its name and fingerprint, `report` what the build saw."""
    recipe = get_recipe(session, recipe_id)
    recipe.status, recipe.progress, recipe.message, recipe.built_at = "ready", 1.0, "", now
    recipe.bank_path, recipe.bank_sha256 = bank_path, bank_sha256
    recipe.encoder, recipe.encoder_fingerprint = encoder
    recipe.threshold, recipe.calibration_kind, recipe.calibration_n = (
        calibration.threshold,
        calibration.kind,
        calibration.n,
    )
    promise = {name: getattr(calibration, name) for name in ("rate", "bound", "reject_threshold")}
    recipe.calibration, recipe.report = recipe.calibration | promise, report
