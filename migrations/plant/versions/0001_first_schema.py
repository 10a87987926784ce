"""Stations, recipes, verdicts, regions and labels of a plant."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plant_stations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("installation", sa.String(length=32), nullable=False),
        sa.Column("verdict_id", sa.BigInteger(), nullable=False),
        sa.Column("label_id", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_plant_stations"),
        sa.UniqueConstraint("name", name="uq_plant_stations_name"),
    )
    op.create_table(
        "plant_labels",
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("boot", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("region", sa.JSON(), nullable=True),
        sa.Column("lesson", sa.Text(), nullable=False),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["station_id"], ["plant_stations.id"], name="fk_plant_labels_station_id_plant_stations"
        ),
        sa.PrimaryKeyConstraint("station_id", "boot", "seq", "captured_at", "at", "who", name="pk_plant_labels"),
    )
    op.create_table(
        "plant_recipes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("rcp", sa.Integer(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("bank_sha256", sa.Text(), nullable=False),
        sa.Column("encoder", sa.Text(), nullable=True),
        sa.Column("threshold", sa.Float(precision=53), nullable=True),
        sa.Column("calibration_kind", sa.Text(), nullable=True),
        sa.Column("calibration_n", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["station_id"], ["plant_stations.id"], name="fk_plant_recipes_station_id_plant_stations"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_plant_recipes"),
        sa.UniqueConstraint("station_id", "product", "rcp", "rev", "bank_sha256", name="uq_plant_recipes_identity"),
    )
    op.create_table(
        "plant_inspections",
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("boot", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trg", sa.BigInteger(), nullable=False),
        sa.Column("camera", sa.Text(), nullable=False),
        sa.Column("frame_id", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Integer(), nullable=False),
        sa.Column("err", sa.Integer(), nullable=False),
        sa.Column("flg", sa.Integer(), nullable=False),
        sa.Column("recipe_id", sa.Integer(), nullable=True),
        sa.Column("score", sa.Float(precision=53), nullable=True),
        sa.Column("threshold", sa.Float(precision=53), nullable=True),
        sa.Column("roi", sa.Integer(), nullable=False),
        sa.Column("latency_ms", sa.Float(precision=53), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("copied_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recipe_id"], ["plant_recipes.id"], name="fk_plant_inspections_recipe_id_plant_recipes"
        ),
        sa.ForeignKeyConstraint(
            ["station_id"], ["plant_stations.id"], name="fk_plant_inspections_station_id_plant_stations"
        ),
        sa.PrimaryKeyConstraint("station_id", "boot", "seq", "captured_at", name="pk_plant_inspections"),
    )
    op.create_index("ix_plant_inspections_captured_at", "plant_inspections", ["captured_at"], unique=False)
    op.create_index(
        "ix_plant_inspections_verdict_captured_at", "plant_inspections", ["verdict", "captured_at"], unique=False
    )
    op.create_table(
        "plant_regions",
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("boot", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("x_px", sa.Integer(), nullable=False),
        sa.Column("y_px", sa.Integer(), nullable=False),
        sa.Column("width_px", sa.Integer(), nullable=False),
        sa.Column("height_px", sa.Integer(), nullable=False),
        sa.Column("area_px", sa.Integer(), nullable=False),
        sa.Column("area_fraction", sa.Float(precision=53), nullable=False),
        sa.Column("peak", sa.Float(precision=53), nullable=False),
        sa.Column("mean_excess", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["station_id", "boot", "seq", "captured_at"],
            [
                "plant_inspections.station_id",
                "plant_inspections.boot",
                "plant_inspections.seq",
                "plant_inspections.captured_at",
            ],
            name="fk_plant_regions_inspection",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("station_id", "boot", "seq", "captured_at", "position", name="pk_plant_regions"),
    )


def downgrade() -> None:
    op.drop_table("plant_regions")
    op.drop_index("ix_plant_inspections_verdict_captured_at", table_name="plant_inspections")
    op.drop_index("ix_plant_inspections_captured_at", table_name="plant_inspections")
    op.drop_table("plant_inspections")
    op.drop_table("plant_recipes")
    op.drop_table("plant_labels")
    op.drop_table("plant_stations")
