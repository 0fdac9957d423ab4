"""Fixtures of the whole suite: one real PostgreSQL server serves every test that needs one."""

from datalake_assets_tests.servers import database, postgres_server, reused_database

__all__ = ["database", "postgres_server", "reused_database"]
