"""The accounts that a world books on."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, insert, select

from domain.errors import DuplicateRecord
from storage.engine import read, write
from storage.schema import accounts


@dataclass(frozen=True, slots=True)
class Account:
    """A set of books in one base currency; ``kind`` is ``paper``, ``live`` or ``external``."""

    world: str
    name: str
    currency: str
    kind: str


def ensure_account(
    engine: Engine, world: str, name: str, currency: str, kind: str = "paper"
) -> Account:
    """Open an account, or return it if it is open.

    Raises
    ------
    DuplicateRecord : if it is open with another currency or kind.
    """
    wanted = Account(world, name, currency, kind)
    query = select(accounts).where(accounts.c.world == world, accounts.c.name == name)
    with write(engine) as connection:
        row = connection.execute(query).first()
        if row is None:
            connection.execute(
                insert(accounts),
                {"world": world, "name": name, "currency": currency, "kind": kind},
            )
        elif Account(*row) != wanted:
            raise DuplicateRecord(
                f"account {name}", f"is open in {row.currency} as {row.kind}",
                f"{currency} as {kind}", "Open another account.",
            )  # fmt: skip
    return wanted


def list_accounts(engine: Engine, world: str | None = None) -> list[Account]:
    """Return the accounts of one world, or of all, by world and name."""
    query = select(accounts).order_by(accounts.c.world, accounts.c.name)
    if world is not None:
        query = query.where(accounts.c.world == world)
    with read(engine) as connection:
        return [Account(*row) for row in connection.execute(query)]
