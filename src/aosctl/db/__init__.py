"""The way to PostgreSQL: the only place of the package that speaks to a server."""
