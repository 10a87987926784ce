"""Triggers in a row that passed by unseen and have no verdict yet.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "absences",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("boot", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("camera", sa.String(length=32), nullable=False),
        sa.Column("before", sa.BigInteger(), nullable=False),
        sa.Column("unseen", sa.Integer(), nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["station_id"], ["stations.id"], name=op.f("fk_absences_station_id_stations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_absences")),
        sa.UniqueConstraint("station_id", "boot", "seq", name=op.f("uq_absences_station_id_boot_seq")),
    )


def downgrade() -> None:
    op.drop_table("absences")
