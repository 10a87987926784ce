"""Alembic's environment: runs on the connection that `inspector.store.engine.upgrade` hands over."""

from alembic import context

attributes = context.config.attributes
context.configure(connection=attributes["connection"], render_as_batch=True, version_table=attributes["version_table"])
with context.begin_transaction():
    context.run_migrations()
