"""What people say of pictures: good, defect or unusable. Append-only; the newest label of a picture counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from inspector.errors import NotFoundError, UsageError
from inspector.store.challenges import PRODUCTION
from inspector.store.pictures import Picture
from inspector.store.schema import Audit, InspectionRow, Label, Product

GOOD, DEFECT, UNUSABLE = "good", "defect", "unusable"
LABELS = (GOOD, DEFECT, UNUSABLE)
MAX_KIND = 64


@dataclass(frozen=True)
class Said:
    """A label as a person gives it; `region` is left, top, width and height as fractions of the picture.

    If it `teaches`, later revisions look out for what the region shows (a defect), or leave it alone (on a good part).
    """

    label: str
    kind: str = ""
    region: tuple[float, float, float, float] | None = None
    blind: bool = False
    teaches: bool = False

    @property
    def lesson(self) -> str:
        """What its region teaches: a defect to look out for, a mark to tolerate on a good part, or nothing."""
        return "" if not self.teaches else "defect" if self.label == DEFECT else "tolerated"

    def __post_init__(self) -> None:
        if self.label not in LABELS:
            raise UsageError(f"label {self.label!r}: expected one of {', '.join(LABELS)}")
        if self.label != DEFECT and self.kind:
            raise UsageError("only a defect has a kind")
        if self.region is not None and self.label != DEFECT and not (self.label == GOOD and self.teaches):
            raise UsageError("only a defect has a region, or a good part whose mark is to be tolerated")
        if self.teaches and (self.region is None or self.label == UNUSABLE):
            raise UsageError("only the marked region of a defect, or of a good part, can teach something")
        if len(self.kind) > MAX_KIND:
            raise UsageError(f"the kind of a defect has at most {MAX_KIND} characters, but {len(self.kind)} were given")
        if self.region is not None:
            left, top, width, height = self.region
            if not (0 <= left < 1 and 0 <= top < 1 and 0 < width <= 1 - left + 1e-9 and 0 < height <= 1 - top + 1e-9):
                raise UsageError(
                    f"region {self.region}: expected left, top, width and height as fractions of the picture"
                )


def add_label(
    session: Session,
    product: Product,
    picture: Picture,
    said: Said,
    *,
    inspection_id: int | None = None,
    source: str,
    who: str,
    now: datetime,
) -> Label:
    """Store what was said of a picture (`pictures.staged`); this copy of it is kept for good.

    Raises:
        StoreError: the copy cannot be put in its place.
    """
    label = Label(
        product_id=product.id,
        inspection_id=inspection_id,
        sha256=picture.sha256,
        path=picture.move_to(Path("labelled") / str(product.rcp) / f"{picture.sha256[:16]}.png"),
        name=picture.name,
        label=said.label,
        kind=said.kind,
        region=None if said.region is None else list(said.region),
        lesson=said.lesson,
        blind=said.blind,
        source=source,
        at=now,
        who=who,
    )
    session.add(label)
    detail = {"product": product.name, "picture": label.name, "label": said.label, "kind": said.kind, "source": source}
    session.add(Audit(at=now, who=who, action="label", detail=detail))
    session.flush()
    return label


def current(session: Session, product_id: int, wanted: Sequence[str] = LABELS) -> list[Label]:
    """The newest label of each picture of a product, oldest first, if it is one of `wanted`."""
    newest = select(func.max(Label.id)).where(Label.product_id == product_id).group_by(Label.sha256)
    query = select(Label).where(Label.id.in_(newest), Label.label.in_(wanted)).order_by(Label.id)
    return list(session.scalars(query))


def history(session: Session, product_id: int) -> list[Label]:
    """Every label that was ever given to pictures of a product, in order."""
    return list(session.scalars(select(Label).where(Label.product_id == product_id).order_by(Label.id)))


def of_inspections(session: Session, inspection_ids: Sequence[int]) -> dict[int, Label]:
    """The newest label of each of these verdicts that has one."""
    query = select(Label).where(Label.inspection_id.in_(inspection_ids)).order_by(Label.id)
    return {label.inspection_id: label for label in session.scalars(query) if label.inspection_id is not None}


def unlabelled(session: Session, station_id: int, verdicts: Sequence[int], limit: int) -> list[InspectionRow]:
    """Verdicts of the production with a picture that nobody has labelled, newest first."""
    labelled = select(Label.inspection_id).where(Label.inspection_id.is_not(None))
    query = select(InspectionRow).where(
        InspectionRow.station_id == station_id,
        InspectionRow.image_path.is_not(None),
        InspectionRow.recipe_id.is_not(None),
        InspectionRow.verdict.in_(verdicts),
        InspectionRow.id.not_in(labelled),
        PRODUCTION,
    )
    return list(session.scalars(query.order_by(InspectionRow.id.desc()).limit(limit)))


def get_label(session: Session, label_id: int) -> Label:
    label = session.get(Label, label_id)
    if label is None:
        raise NotFoundError(f"there is no label {label_id}")
    return label
