"""Alembic's versions; a version file imports nothing of ours."""
