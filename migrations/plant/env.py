"""Alembic's environment of the central database: runs on the connection that the store's `upgrade` hands over."""

from alembic import context

attributes = context.config.attributes
context.configure(connection=attributes["connection"], render_as_batch=True, version_table=attributes["version_table"])
with context.begin_transaction():
    context.run_migrations()
