"""The tables of the plant's central database: the verdicts of many stations, each row readable without its station.

May import the types of `schema`. Each station numbers its products and verdict rows by itself and may start anew with an
empty database, so nothing here is known by a station's own ids: a verdict is (station, boot, seq, moment of the exposure),
a recipe is what it is called and the hash of its bank. All names begin with `plant_`.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from inspector.store.schema import NAMING_CONVENTION, UtcDateTime


class PlantBase(DeclarativeBase):
    """All tables of the central database."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime(), dict[str, Any]: JSON(), str: Text()}


class PlantStation(PlantBase):
    """A station, which database it copies from (`installation`), how far (ids of that database), and when it last came by."""

    __tablename__ = "plant_stations"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(32), unique=True)
    installation: Mapped[str] = mapped_column(String(32))
    verdict_id: Mapped[int] = mapped_column(BigInteger, default=0)
    label_id: Mapped[int] = mapped_column(BigInteger, default=0)
    disposition_no: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    seen_at: Mapped[datetime]


class PlantRecipe(PlantBase):
    """A revision of a product as one station has it; two stations may give one number to different products."""

    __tablename__ = "plant_recipes"
    __table_args__ = (
        UniqueConstraint("station_id", "product", "rcp", "rev", "bank_sha256", name="uq_plant_recipes_identity"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("plant_stations.id"))
    product: Mapped[str]
    rcp: Mapped[int]
    rev: Mapped[int]
    bank_sha256: Mapped[str]
    encoder: Mapped[str | None]
    threshold: Mapped[float | None] = mapped_column(Float(53))
    calibration_kind: Mapped[str | None]
    calibration_n: Mapped[int | None]


class PlantInspection(PlantBase):
    """One verdict. The exposure is a part of the identity: a station that starts with a new database counts from 1 again."""

    __tablename__ = "plant_inspections"
    __table_args__ = (
        Index(None, "captured_at"),
        Index(None, "verdict", "captured_at"),
        {"postgresql_partition_by": "RANGE (captured_at)"},  # by month, see `months`
    )

    station_id: Mapped[int] = mapped_column(ForeignKey("plant_stations.id"), primary_key=True)
    boot: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    captured_at: Mapped[datetime] = mapped_column(primary_key=True)
    trg: Mapped[int] = mapped_column(BigInteger)
    camera: Mapped[str]
    frame_id: Mapped[int] = mapped_column(BigInteger)
    part: Mapped[str]
    verdict: Mapped[int]  # Verdict: 0 NONE, 1 OK, 2 NG, 3 UNDECIDED
    err: Mapped[int]
    flg: Mapped[int]
    recipe_id: Mapped[int | None] = mapped_column(ForeignKey("plant_recipes.id"))
    score: Mapped[float | None] = mapped_column(Float(53))
    threshold: Mapped[float | None] = mapped_column(Float(53))
    roi: Mapped[int]
    latency_ms: Mapped[float] = mapped_column(Float(53))
    detail: Mapped[dict[str, Any]]
    acc: Mapped[int | None]  # what the PLC did: 1 let it pass, 0 did not; None: it has not said
    rsn: Mapped[int | None]  # its reason, numbered by the contract
    copied_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PlantRegion(PlantBase):
    """One defect region of a verdict, in pixels of the camera's image."""

    __tablename__ = "plant_regions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["station_id", "boot", "seq", "captured_at"],
            [f"plant_inspections.{key}" for key in ("station_id", "boot", "seq", "captured_at")],
            ondelete="CASCADE",
            name="fk_plant_regions_inspection",
        ),
        {"postgresql_partition_by": "RANGE (captured_at)"},
    )

    station_id: Mapped[int] = mapped_column(primary_key=True)
    boot: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    captured_at: Mapped[datetime] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    x_px: Mapped[int]
    y_px: Mapped[int]
    width_px: Mapped[int]
    height_px: Mapped[int]
    area_px: Mapped[int]
    area_fraction: Mapped[float] = mapped_column(Float(53))
    peak: Mapped[float] = mapped_column(Float(53))
    mean_excess: Mapped[float] = mapped_column(Float(53))


class PlantLabel(PlantBase):
    """What a person said of a verdict's picture. It may outlive its verdict, if the plant deletes old ones."""

    __tablename__ = "plant_labels"

    station_id: Mapped[int] = mapped_column(ForeignKey("plant_stations.id"), primary_key=True)
    boot: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    captured_at: Mapped[datetime] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    who: Mapped[str] = mapped_column(String(64), primary_key=True)
    label: Mapped[str]  # "good", "defect", "unusable"
    kind: Mapped[str]
    region: Mapped[list[float] | None] = mapped_column(JSON(none_as_null=True))
    lesson: Mapped[str]
    blind: Mapped[bool]
    source: Mapped[str]
