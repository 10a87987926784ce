"""How far each station's rows have been copied to the plant's central database."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "central_copies",
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("installation", sa.String(length=32), nullable=False),
        sa.Column("verdict_id", sa.BigInteger(), nullable=False),
        sa.Column("label_id", sa.BigInteger(), nullable=False),
        sa.Column("rewinds", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["station_id"], ["stations.id"], name=op.f("fk_central_copies_station_id_stations")),
        sa.PrimaryKeyConstraint("station_id", name=op.f("pk_central_copies")),
    )


def downgrade() -> None:
    op.drop_table("central_copies")
