"""The id of a delivered message is never given to another one.

SQLite takes the highest id that is there and counts on; of an outbox that was just emptied that is an id which has been used,
and the publisher, still busy with the old message, left the new one lying until the next start. PostgreSQL counts anyhow.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _make_anew(counting=True)


def downgrade() -> None:
    _make_anew(counting=False)


def _make_anew(*, counting: bool) -> None:
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table("outbox", recreate="always", table_kwargs={"sqlite_autoincrement": counting}):
            pass
