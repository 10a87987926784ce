"""The tables, once, for SQLite and PostgreSQL; `migrations/` makes them, this module only describes them.

Times are aware UTC (`UtcDateTime`): SQLite keeps no time zone, so it is put on again when a row is read.
Numbers of the PLC contract that are unsigned 32-bit (`seq`, `trg`) need BigInteger in SQL.
"""

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

# Alembic's batch mode on SQLite needs every constraint to have a name.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

BIG_ID = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER PRIMARY KEY counts up by itself in SQLite


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC time in, aware UTC time out, on every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times must be aware (UTC), but this one has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """All tables of the product."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime(), dict[str, Any]: JSON()}


class Station(Base):
    """A worker's identity, its boot counter, its active recipe, and what it last said of itself."""

    __tablename__ = "stations"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(32), unique=True)
    boot: Mapped[int] = mapped_column(default=0)  # u16, +1 at each start of the worker
    active_recipe_id: Mapped[int | None] = mapped_column(ForeignKey("recipes.id", use_alter=True))
    status: Mapped[dict[str, Any]] = mapped_column(default=dict)  # the last `state` and `hb`, for the dashboard
    seen_at: Mapped[datetime | None]  # when the worker last wrote `status`
    stopped: Mapped[str] = mapped_column(
        String(8), default="", server_default=""
    )  # "stopped", "halted": it was told to


class Product(Base):
    """What the operator selects. `rcp` is the PLC's index of it and never changes."""

    __tablename__ = "products"

    id: Mapped[int] = mapped_column(primary_key=True)
    rcp: Mapped[int] = mapped_column(unique=True)  # u16, from 1
    name: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    recipes: Mapped[list["Recipe"]] = relationship(back_populates="product", order_by="Recipe.rev")


class Recipe(Base):
    """One revision of a product: its references, its bank, its calibration, its encoder.

    `status`: queued → building → ready or failed. `queued` recipes are built by the worker of `station_id`;
    ready recipes never change.
    """

    __tablename__ = "recipes"
    __table_args__ = (UniqueConstraint("product_id", "rev"), Index(None, "status"))

    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    rev: Mapped[int]  # u16, from 1
    status: Mapped[str] = mapped_column(String(16))
    progress: Mapped[float] = mapped_column(default=0.0)  # 0 … 1
    message: Mapped[str] = mapped_column(Text, default="")  # what is being done, or why it failed
    station_id: Mapped[int | None] = mapped_column(ForeignKey("stations.id"))
    bank_path: Mapped[str | None] = mapped_column(Text)  # below the data folder
    bank_sha256: Mapped[str | None] = mapped_column(String(64))
    encoder: Mapped[str | None] = mapped_column(Text)  # name, for people
    encoder_fingerprint: Mapped[str | None] = mapped_column(String(64))
    threshold: Mapped[float | None]
    calibration_kind: Mapped[str | None] = mapped_column(String(16))  # "provisional", "confirmed", "conformal"
    calibration_n: Mapped[int | None]
    calibration: Mapped[dict[str, Any]] = mapped_column(JSON, server_default=text("'{}'"))  # promise, wish, grey zone
    report: Mapped[dict[str, Any]] = mapped_column(
        JSON, server_default=text("'{}'")
    )  # what the build saw: see `inspector.recipes`
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(64), default="")
    built_at: Mapped[datetime | None]
    product: Mapped[Product] = relationship(back_populates="recipes")
    references: Mapped[list["ReferenceImage"]] = relationship(
        back_populates="recipe", order_by="ReferenceImage.position", cascade="all, delete-orphan"
    )


class ReferenceImage(Base):
    """One normal picture of a recipe. `score` is its leave-one-out score, `warning` what is odd about it, in words.

    `findings` are the same as records: kind, reason, score.
    """

    __tablename__ = "reference_images"
    __table_args__ = (UniqueConstraint("recipe_id", "position"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    recipe_id: Mapped[int] = mapped_column(ForeignKey("recipes.id", ondelete="CASCADE"))
    position: Mapped[int]
    name: Mapped[str] = mapped_column(String(255))  # as the user called the file
    path: Mapped[str] = mapped_column(Text)  # below the data folder
    sha256: Mapped[str] = mapped_column(String(64))
    score: Mapped[float | None]
    warning: Mapped[str] = mapped_column(Text, default="")
    findings: Mapped[list[dict[str, Any]]] = mapped_column(JSON, server_default=text("'[]'"))
    recipe: Mapped[Recipe] = relationship(back_populates="references")


class Label(Base):
    """What a person said of a picture of a product; append-only, the newest for a picture (`sha256`) counts.

    `region` is a box as fractions of the picture (left, top, width, height), of a defect. `source` is where it was said:
    "review" on the page, "cli", "import". `blind` tells that the verdict was not shown. `lesson` is what its region
    teaches: "defect" to look out for, "tolerated" to leave alone, or nothing.
    """

    __tablename__ = "labels"
    __table_args__ = (Index(None, "product_id", "sha256"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    inspection_id: Mapped[int | None] = mapped_column(ForeignKey("inspections.id", ondelete="SET NULL"), index=True)
    sha256: Mapped[str] = mapped_column(String(64))  # of the picture's pixels
    path: Mapped[str] = mapped_column(Text)  # of its copy below the data folder, which is never thinned out
    name: Mapped[str] = mapped_column(String(255), default="")
    label: Mapped[str] = mapped_column(String(16))  # "good", "defect", "unusable"
    kind: Mapped[str] = mapped_column(String(64), default="")  # of a defect, as people call it
    region: Mapped[list[float] | None] = mapped_column(JSON)
    lesson: Mapped[str] = mapped_column(String(16), default="")
    blind: Mapped[bool] = mapped_column(default=False)
    source: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime]
    who: Mapped[str] = mapped_column(String(64), default="")


class Study(Base):
    """An attribute agreement study: `operators` judge each part `repeats` times, blind, in an order of their own.

    `orders[operator][repeat]` holds the positions of the parts in the order in which they are shown; made once from `seed`.
    """

    __tablename__ = "studies"
    __table_args__ = (Index(None, "product_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    title: Mapped[str] = mapped_column(String(120))
    operators: Mapped[list[str]] = mapped_column(JSON)
    repeats: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    orders: Mapped[list[list[list[int]]]] = mapped_column(JSON)
    with_system: Mapped[bool] = mapped_column(default=False)  # the inspection system is one of the judges
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(64), default="")
    product: Mapped[Product] = relationship()
    parts: Mapped[list["StudyPart"]] = relationship(order_by="StudyPart.position", cascade="all, delete-orphan")


class StudyPart(Base):
    """One part of a study, with a copy of its picture, the truth as it was known when the study was made, and the verdict."""

    __tablename__ = "study_parts"
    __table_args__ = (UniqueConstraint("study_id", "position"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    position: Mapped[int]
    name: Mapped[str] = mapped_column(String(255))
    path: Mapped[str] = mapped_column(Text)  # of its copy below the data folder, which is never thinned out
    sha256: Mapped[str] = mapped_column(String(64))  # of the picture's pixels
    inspection_id: Mapped[int | None] = mapped_column(ForeignKey("inspections.id", ondelete="SET NULL"), index=True)
    verdict: Mapped[int | None]  # of that inspection
    truth: Mapped[str] = mapped_column(String(16), default="")  # "good", "defect", or not known
    truth_source: Mapped[str] = mapped_column(String(16), default="")  # "label", "engineer"


class StudyAnswer(Base):
    """What one operator said of one part in one round; append-only, once for each."""

    __tablename__ = "study_answers"
    __table_args__ = (UniqueConstraint("study_id", "operator", "repeat", "part_id"), Index(None, "part_id"))

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    part_id: Mapped[int] = mapped_column(ForeignKey("study_parts.id", ondelete="CASCADE"))
    operator: Mapped[str] = mapped_column(String(64))
    repeat: Mapped[int]  # from 0
    answer: Mapped[str] = mapped_column(String(16))  # "good", "defect"
    took_s: Mapped[float] = mapped_column(Float(53))  # from the picture's showing to the answer
    at: Mapped[datetime]


class Activation(Base):
    """Which recipe was active where, from when on: the history that a rollback goes back through."""

    __tablename__ = "activations"
    __table_args__ = (Index(None, "station_id", "activated_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    recipe_id: Mapped[int] = mapped_column(ForeignKey("recipes.id"))
    activated_at: Mapped[datetime]
    activated_by: Mapped[str] = mapped_column(String(64), default="")


class InspectionRow(Base):
    """One verdict: exactly one row per part. Identity is (station, boot, seq)."""

    __tablename__ = "inspections"
    __table_args__ = (
        UniqueConstraint("station_id", "boot", "seq"),
        Index(None, "station_id", "id"),
        Index(None, "captured_at"),
        Index(None, "verdict", "captured_at"),
        Index(
            "ix_inspections_pictures",
            "station_id",
            "verdict",
            "id",
            sqlite_where=text("image_path IS NOT NULL"),
            postgresql_where=text("image_path IS NOT NULL"),
        ),
        Index(
            "ix_inspections_dispositions",
            "station_id",
            "disposition_no",
            sqlite_where=text("disposition_no IS NOT NULL"),
            postgresql_where=text("disposition_no IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    boot: Mapped[int]
    seq: Mapped[int] = mapped_column(BigInteger)
    trg: Mapped[int] = mapped_column(BigInteger)
    camera: Mapped[str] = mapped_column(String(32))
    frame_id: Mapped[int] = mapped_column(BigInteger)
    part: Mapped[str] = mapped_column(String(32), default="")
    verdict: Mapped[int]  # Verdict: 0 NONE, 1 OK, 2 NG, 3 UNDECIDED
    err: Mapped[int] = mapped_column(default=0)
    flg: Mapped[int] = mapped_column(default=0)
    recipe_id: Mapped[int | None] = mapped_column(ForeignKey("recipes.id"))
    score: Mapped[float | None] = mapped_column(Float(53))
    threshold: Mapped[float | None] = mapped_column(Float(53))
    roi: Mapped[int] = mapped_column(default=0)
    latency_ms: Mapped[float] = mapped_column(default=0.0)  # exposure → verdict committed
    captured_at: Mapped[datetime]
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)  # the `detail` message: parts, branches, timings
    image_path: Mapped[str | None] = mapped_column(Text)  # below the data folder; None: not kept
    map_path: Mapped[str | None] = mapped_column(Text)
    acc: Mapped[int | None]  # what the PLC did: 1 let it pass, 0 did not; None: it has not said
    rsn: Mapped[int | None]  # its reason, numbered by the contract
    disposition_no: Mapped[int | None] = mapped_column(BigInteger)  # in the order in which the PLC said it
    regions: Mapped[list["RegionRow"]] = relationship(
        back_populates="inspection", order_by="RegionRow.position", cascade="all, delete-orphan"
    )
    recipe: Mapped[Recipe | None] = relationship()


class RegionRow(Base):
    """One defect region of a verdict, in pixels of the camera's image.

    `matches` are its `PatchMatch` records. Verdicts of before revision 0002 have neither them nor the peak's place.
    """

    __tablename__ = "regions"
    __table_args__ = (Index(None, "inspection_id"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    inspection_id: Mapped[int] = mapped_column(ForeignKey("inspections.id", ondelete="CASCADE"))
    position: Mapped[int]
    x_px: Mapped[int]
    y_px: Mapped[int]
    width_px: Mapped[int]
    height_px: Mapped[int]
    area_px: Mapped[int]
    area_fraction: Mapped[float]
    centroid_x_px: Mapped[float]
    centroid_y_px: Mapped[float]
    peak: Mapped[float]
    mean_excess: Mapped[float]
    peak_x_px: Mapped[float | None]
    peak_y_px: Mapped[float | None]
    matches: Mapped[list[dict[str, Any]]] = mapped_column(JSON, server_default=text("'[]'"))
    inspection: Mapped[InspectionRow] = relationship(back_populates="regions")


class AbsenceRow(Base):
    """Triggers in a row that passed by unseen and have no verdict yet; shrinks with each that gets one, then goes.

    `boot` and `seq` are those of the verdict that told of them, which came after them in the PLC's counter.
    """

    __tablename__ = "absences"
    __table_args__ = (UniqueConstraint("station_id", "boot", "seq"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    boot: Mapped[int]
    seq: Mapped[int] = mapped_column(BigInteger)
    camera: Mapped[str] = mapped_column(String(32))
    before: Mapped[int] = mapped_column(BigInteger)  # the trigger that the last of them came before
    unseen: Mapped[int]  # how many there still are
    captured_at: Mapped[datetime]  # when their absence showed


class OutboxRow(Base):
    """A message that the broker has not acknowledged; written with its verdict, deleted on acknowledgement.

    An id is never used again: what is on its way knows its row by it.
    """

    __tablename__ = "outbox"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - as SQLAlchemy wants it

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    inspection_id: Mapped[int] = mapped_column(ForeignKey("inspections.id", ondelete="CASCADE"), index=True)
    topic: Mapped[str] = mapped_column(String(16))  # "result" or "detail"
    payload: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


class CentralCopy(Base):
    """How far a station's rows have been copied to the plant's central database, by their ids here.

    `installation` names this database there. `rewinds` counts how often the copy was sent back. What the PLC did may come
    after its verdict was copied: it is numbered (`dispositions`: so far), and copied up to `disposition_no`.
    """

    __tablename__ = "central_copies"

    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"), primary_key=True)
    installation: Mapped[str] = mapped_column(String(32))
    verdict_id: Mapped[int] = mapped_column(BigInteger, default=0)
    label_id: Mapped[int] = mapped_column(BigInteger, default=0)
    disposition_no: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    dispositions: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    rewinds: Mapped[int] = mapped_column(default=0)


class Command(Base):
    """A command to a station, from MQTT, the dashboard or the command line; `cid` makes it run once."""

    __tablename__ = "commands"
    __table_args__ = (UniqueConstraint("station_id", "source", "cid"), Index(None, "station_id", "status"))

    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    source: Mapped[str] = mapped_column(String(16))  # "mqtt", "dashboard", "cli"
    cid: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(32))
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    status: Mapped[str] = mapped_column(String(16))  # pending → running → done
    code: Mapped[int | None]  # code of the final ack
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(64), default="")
    finished_at: Mapped[datetime | None]


class ChallengeMember(Base):
    """A part, or a kept picture of one, whose verdict is known: a golden good part or a known defect of a product.

    `part` is the id that the physical part is triggered with (empty: parts come in the order of `position`). A member is
    never changed, only retired.
    """

    __tablename__ = "challenge_members"
    __table_args__ = (Index(None, "product_id", "set_no"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    set_no: Mapped[int]  # u16, from 1
    position: Mapped[int]
    name: Mapped[str] = mapped_column(String(64))
    expected: Mapped[str] = mapped_column(String(16))  # "good" or "defect"
    kind: Mapped[str] = mapped_column(String(64), default="")
    part: Mapped[str] = mapped_column(String(32), default="")
    path: Mapped[str | None] = mapped_column(Text)  # of its picture below the data folder, if there is one
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(64), default="")
    retired_at: Mapped[datetime | None]


class ChallengeRun(Base):
    """One challenge of a station: what was expected, what was seen, and whether it passed.

    `after_inspection_id` is the last verdict before it began. A failed one holds the station until another one passes or an
    engineer says why not (`override_reason`, audited).
    """

    __tablename__ = "challenges"
    __table_args__ = (Index(None, "station_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    recipe_id: Mapped[int] = mapped_column(ForeignKey("recipes.id"))
    set_no: Mapped[int]
    mode: Mapped[str] = mapped_column(String(16))  # "parts" or "pictures"
    result: Mapped[str] = mapped_column(String(16))  # "running", "passed", "failed", "aborted"
    reason: Mapped[str] = mapped_column(Text, default="")
    members: Mapped[list[dict[str, Any]]] = mapped_column(JSON, server_default=text("'[]'"))
    after_inspection_id: Mapped[int] = mapped_column(BigInteger, default=0)
    began_at: Mapped[datetime]
    began_by: Mapped[str] = mapped_column(String(64), default="")
    ended_at: Mapped[datetime | None]
    override_reason: Mapped[str] = mapped_column(Text, default="")
    override_by: Mapped[str] = mapped_column(String(64), default="")
    recipe: Mapped[Recipe] = relationship()


class DriftPoint(Base):
    """How the last parts of a station compared with those that its recipe was calibrated with; one row per some parts.

    `err` is 0 or the code of the alarm that was up, `cause` what is said to people; `measures` see `inspector.drift`.
    """

    __tablename__ = "drift_points"
    __table_args__ = (Index(None, "station_id", "at"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    recipe_id: Mapped[int] = mapped_column(ForeignKey("recipes.id"))
    at: Mapped[datetime]
    parts: Mapped[int]
    p_mean: Mapped[float | None]
    err: Mapped[int] = mapped_column(default=0)
    cause: Mapped[str] = mapped_column(Text, default="")
    measures: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Audit(Base):
    """Who did what, append-only."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "at"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
