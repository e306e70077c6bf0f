"""Building blocks of migrations: steps that look before they change anything."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, inspect

#: SQLite assigns row ids only to columns of type INTEGER.
ROW_ID = BigInteger().with_variant(Integer, "sqlite")


def add_table(name: str, *parts: Any) -> Table:
    """Create a table with its indexes unless it exists; return it."""
    if inspect(op.get_bind()).has_table(name):
        return Table(name, MetaData(), *(part for part in parts if isinstance(part, Column)))
    return op.create_table(name, *parts)


def add_column(table: str, column: Column[Any]) -> None:
    """Add a column, nullable or with a server default, unless it exists."""
    if column.name not in {one["name"] for one in inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)


def add_index(name: str, table: str, *columns: str) -> None:
    """Create an index unless it exists."""
    if name not in {one["name"] for one in inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, list(columns))
