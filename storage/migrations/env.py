"""What Alembic runs around a migration: the caller's connection, or SQL text for a dialect."""

from __future__ import annotations

from alembic import context

from storage.schema import metadata

connection = context.config.attributes.get("connection")
dialect = context.config.attributes.get("dialect")  # offline: write SQL for it instead

if dialect:
    context.configure(dialect_name=dialect, target_metadata=metadata, literal_binds=True)
else:
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)

with context.begin_transaction():
    context.run_migrations()
