"""Challenges with known parts, and how the parts of a line compare with those of its calibration."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "challenge_members",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("set_no", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("expected", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("part", sa.String(length=32), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name=op.f("fk_challenge_members_product_id_products")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_challenge_members")),
    )
    op.create_index(
        op.f("ix_challenge_members_product_id_set_no"), "challenge_members", ["product_id", "set_no"], unique=False
    )
    op.create_table(
        "challenges",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("recipe_id", sa.Integer(), nullable=False),
        sa.Column("set_no", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("result", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("members", sa.JSON(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("after_inspection_id", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("began_by", sa.String(length=64), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("override_reason", sa.Text(), nullable=False),
        sa.Column("override_by", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipes.id"], name=op.f("fk_challenges_recipe_id_recipes")),
        sa.ForeignKeyConstraint(["station_id"], ["stations.id"], name=op.f("fk_challenges_station_id_stations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_challenges")),
    )
    op.create_index(op.f("ix_challenges_station_id_id"), "challenges", ["station_id", "id"], unique=False)
    op.create_table(
        "drift_points",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("recipe_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("p_mean", sa.Double(), nullable=True),
        sa.Column("err", sa.Integer(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("measures", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipes.id"], name=op.f("fk_drift_points_recipe_id_recipes")),
        sa.ForeignKeyConstraint(["station_id"], ["stations.id"], name=op.f("fk_drift_points_station_id_stations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drift_points")),
    )
    op.create_index(op.f("ix_drift_points_station_id_at"), "drift_points", ["station_id", "at"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_drift_points_station_id_at"), table_name="drift_points")
    op.drop_table("drift_points")
    op.drop_index(op.f("ix_challenges_station_id_id"), table_name="challenges")
    op.drop_table("challenges")
    op.drop_index(op.f("ix_challenge_members_product_id_set_no"), table_name="challenge_members")
    op.drop_table("challenge_members")
