"""SQL: schema, journal, queries, products and their files. Never imports torch."""
