"""Regions: where their worst place is, and which reference patches it was compared with."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("regions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("peak_x_px", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("peak_y_px", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("matches", sa.JSON(), nullable=False, server_default=sa.text("'[]'")))


def downgrade() -> None:
    with op.batch_alter_table("regions", schema=None) as batch_op:
        batch_op.drop_column("matches")
        batch_op.drop_column("peak_y_px")
        batch_op.drop_column("peak_x_px")
