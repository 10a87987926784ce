"""Alembic's folder of the plant's central database."""
