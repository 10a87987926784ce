"""Attribute agreement studies: their parts, orders and answers."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=120), nullable=False),
        sa.Column("operators", sa.JSON(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("orders", sa.JSON(), nullable=False),
        sa.Column("with_system", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name=op.f("fk_studies_product_id_products")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
    )
    op.create_index(op.f("ix_studies_product_id"), "studies", ["product_id"], unique=False)
    op.create_table(
        "study_parts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("inspection_id", BIG_ID, nullable=True),
        sa.Column("verdict", sa.Integer(), nullable=True),
        sa.Column("truth", sa.String(length=16), nullable=False),
        sa.Column("truth_source", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["inspection_id"],
            ["inspections.id"],
            name=op.f("fk_study_parts_inspection_id_inspections"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_study_parts_study_id_studies"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_parts")),
        sa.UniqueConstraint("study_id", "position", name=op.f("uq_study_parts_study_id_position")),
    )
    op.create_index(op.f("ix_study_parts_inspection_id"), "study_parts", ["inspection_id"], unique=False)
    op.create_table(
        "study_answers",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("part_id", sa.Integer(), nullable=False),
        sa.Column("operator", sa.String(length=64), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("answer", sa.String(length=16), nullable=False),
        sa.Column("took_s", sa.Float(precision=53), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["part_id"], ["study_parts.id"], name=op.f("fk_study_answers_part_id_study_parts"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_study_answers_study_id_studies"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_answers")),
        sa.UniqueConstraint(
            "study_id", "operator", "repeat", "part_id", name=op.f("uq_study_answers_study_id_operator_repeat_part_id")
        ),
    )
    op.create_index(op.f("ix_study_answers_part_id"), "study_answers", ["part_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_study_answers_part_id"), table_name="study_answers")
    op.drop_table("study_answers")
    op.drop_index(op.f("ix_study_parts_inspection_id"), table_name="study_parts")
    op.drop_table("study_parts")
    op.drop_index(op.f("ix_studies_product_id"), table_name="studies")
    op.drop_table("studies")
