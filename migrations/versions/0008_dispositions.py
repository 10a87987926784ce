"""What the PLC did with a part, beside its verdict: whether it let it pass, and for which reason.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inspections", sa.Column("acc", sa.Integer(), nullable=True))
    op.add_column("inspections", sa.Column("rsn", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("inspections", "rsn")
    op.drop_column("inspections", "acc")
