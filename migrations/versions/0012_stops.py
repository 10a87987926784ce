"""Whether a station was told to stop, or to halt, so that it does not go into production by itself after a restart.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stations", sa.Column("stopped", sa.String(length=8), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("stations", "stopped")
