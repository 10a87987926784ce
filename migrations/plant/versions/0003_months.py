"""On PostgreSQL verdicts and regions lie in a partition for each month (UTC) of the exposure.

The function `plant_month` makes the partitions of a month. It acts with the rights of whoever ran this, so that the stations'
account needs no right to make tables, and is granted to those who may insert verdicts. Rows that are there are copied into
their months; who had rights on the tables keeps them.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = ("station_id", "boot", "seq", "captured_at")
INDEXES = {
    "ix_plant_inspections_captured_at": ["captured_at"],
    "ix_plant_inspections_verdict_captured_at": ["verdict", "captured_at"],
}
TABLES = ("plant_inspections", "plant_regions")

# LIKE and ATTACH instead of PARTITION OF: that would wait for everyone who reads, and make all others wait meanwhile.
MONTH = """
CREATE FUNCTION plant_month(moment timestamptz) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = {schema}, pg_temp AS $$
DECLARE
    first timestamp := date_trunc('month', moment AT TIME ZONE 'UTC');
    parent text;
    part text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('plant_month'));
    FOREACH parent IN ARRAY ARRAY['plant_inspections', 'plant_regions'] LOOP
        part := parent || to_char(first, '_YYYY_MM');
        -- asked of the table itself: the names that this session has in its cache may be of before the lock
        PERFORM FROM pg_class WHERE relname = part AND relnamespace = current_schema()::regnamespace;
        IF NOT FOUND THEN
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING INDEXES)', part, parent);
            EXECUTE format(
                'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                parent, part, first AT TIME ZONE 'UTC', (first + interval '1 month') AT TIME ZONE 'UTC'
            );
        END IF;
    END LOOP;
END $$
"""

KEEP_RIGHTS = """
DO $$
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT rights.privilege_type AS what, rights.is_grantable AS on_,
               CASE rights.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(rights.grantee)) END AS who
        FROM pg_class, aclexplode(relacl) AS rights WHERE oid = '{old}'::regclass AND rights.grantee <> relowner
    LOOP
        EXECUTE format('GRANT %s ON {new} TO %s', held.what, held.who)
            || CASE WHEN held.on_ THEN ' WITH GRANT OPTION' ELSE '' END;
        IF held.what = 'INSERT' AND {with_function} THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION plant_month TO %s', held.who);
        END IF;
    END LOOP;
END $$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
        op.execute(MONTH.format(schema=schema))
        op.execute("REVOKE ALL ON FUNCTION plant_month FROM PUBLIC")
        _make_anew(by_month=True)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _make_anew(by_month=False)
        op.execute("DROP FUNCTION plant_month")


def _make_anew(*, by_month: bool) -> None:
    op.drop_constraint("fk_plant_regions_inspection", "plant_regions")
    for name in INDEXES:
        op.drop_index(name, "plant_inspections")
    for table in TABLES:
        old = f"{table}_old"
        op.drop_constraint(f"pk_{table}", table)
        op.rename_table(table, old)
        partitioned = " PARTITION BY RANGE (captured_at)" if by_month else ""
        op.execute(f"CREATE TABLE {table} (LIKE {old} INCLUDING DEFAULTS){partitioned}")
        op.execute(KEEP_RIGHTS.format(old=old, new=table, with_function=by_month))
    _constrain()
    if by_month:
        op.execute(
            "SELECT plant_month(month) FROM"
            " (SELECT DISTINCT date_trunc('month', captured_at, 'UTC') AS month FROM plant_inspections_old) AS months"
        )
    for table in TABLES:
        op.execute(f"INSERT INTO {table} SELECT * FROM {table}_old")  # noqa: S608 - names of this file
    for table in TABLES:
        op.drop_table(f"{table}_old")


def _constrain() -> None:
    op.create_primary_key("pk_plant_inspections", "plant_inspections", [*KEY])
    op.create_primary_key("pk_plant_regions", "plant_regions", [*KEY, "position"])
    for name, columns in INDEXES.items():
        op.create_index(name, "plant_inspections", columns)
    for column, table in (("recipe_id", "plant_recipes"), ("station_id", "plant_stations")):
        name = f"fk_plant_inspections_{column}_{table}"
        op.create_foreign_key(name, "plant_inspections", table, [column], ["id"])
    op.create_foreign_key(
        "fk_plant_regions_inspection", "plant_regions", "plant_inspections", [*KEY], [*KEY], ondelete="CASCADE"
    )
