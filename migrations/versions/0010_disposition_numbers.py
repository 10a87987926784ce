"""The order in which the PLC's dispositions came, by which they are copied to the plant's central database.

Those that came before have been left out of the copy; they get numbers in the order of their verdicts.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INDEX = "ix_inspections_dispositions"


def upgrade() -> None:
    op.add_column("inspections", sa.Column("disposition_no", sa.BigInteger(), nullable=True))
    for name in ("disposition_no", "dispositions"):
        op.add_column("central_copies", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.execute(
        "UPDATE inspections SET disposition_no = id"
        " WHERE acc IS NOT NULL AND station_id IN (SELECT station_id FROM central_copies)"
    )
    op.execute(
        "UPDATE central_copies SET dispositions = COALESCE((SELECT MAX(disposition_no) FROM inspections"
        " WHERE inspections.station_id = central_copies.station_id), 0)"
    )
    numbered = sa.text("disposition_no IS NOT NULL")
    op.create_index(
        INDEX, "inspections", ["station_id", "disposition_no"], sqlite_where=numbered, postgresql_where=numbered
    )


def downgrade() -> None:
    op.drop_index(INDEX, "inspections")
    op.drop_column("central_copies", "dispositions")
    op.drop_column("central_copies", "disposition_no")
    op.drop_column("inspections", "disposition_no")
