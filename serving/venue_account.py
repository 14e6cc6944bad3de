"""The one account of ``conclave venue``: its balances, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from domain.canonical import canonical_json
from domain.errors import UsageError

if TYPE_CHECKING:
    from sim.venue.accounts import Ledger
    from sim.venue.market import Markets

NAME = "main"
USUAL = ("USDT=10000",)


def balances(texts: Iterable[str]) -> dict[str, Decimal]:
    """Read ``ASSET=AMOUNT`` flags.

    Raises
    ------
    UsageError : for what is none.
    """
    found: dict[str, Decimal] = {}
    for text in texts:
        asset, _, amount = text.partition("=")
        try:
            value = Decimal(amount)
        except InvalidOperation:
            value = Decimal("NaN")
        if not asset.isalnum() or not value.is_finite() or value < 0:
            raise UsageError(
                "--balance", "must be ASSET=AMOUNT, 0 or more", text, "Try --balance USDT=10000"
            )
        found[asset.upper()] = value
    return found


def kept(path: Path | None) -> Ledger | None:
    """Return the accounts that a file keeps; None if there is none yet.

    Raises
    ------
    UsageError : if it keeps something else.
    """
    from sim.venue.accounts import Ledger

    if path is None or not path.exists():
        return None
    try:
        state = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(
            "--state", "must be a file that conclave venue wrote", path.name
        ) from error
    if not isinstance(state, dict):
        raise UsageError("--state", "must be a file that conclave venue wrote", path.name)
    return Ledger.restored(state)


def opened(markets: Markets, amounts: dict[str, Decimal]) -> Ledger:
    """Return a ledger of one account with these balances in both wallets."""
    from sim.venue.accounts import Account, Ledger

    settled = {listing.quote for listing in markets.listings.values()}
    return Ledger({NAME: Account.funded(NAME, amounts, settled)})


def keep(path: Path, ledger: Ledger) -> None:
    """Write the accounts into a file, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(canonical_json(ledger.state()), "utf-8")
    part.replace(path)
