"""An index of the verdicts that keep a picture: clean-up looks for them each minute, among millions of rows.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NAME = "ix_inspections_pictures"


def upgrade() -> None:
    kept = sa.text("image_path IS NOT NULL")
    op.create_index(NAME, "inspections", ["station_id", "verdict", "id"], sqlite_where=kept, postgresql_where=kept)


def downgrade() -> None:
    op.drop_index(NAME, "inspections")
