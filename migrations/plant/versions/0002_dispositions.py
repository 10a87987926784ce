"""What the PLC did with each part, and how far its receipts of each station have been copied.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("plant_inspections", sa.Column("acc", sa.Integer(), nullable=True))
    op.add_column("plant_inspections", sa.Column("rsn", sa.Integer(), nullable=True))
    op.add_column("plant_stations", sa.Column("disposition_no", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("plant_stations", "disposition_no")
    op.drop_column("plant_inspections", "rsn")
    op.drop_column("plant_inspections", "acc")
