"""The one account of ``conclave venue``: its balances, and the file that keeps it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import structlog

from domain.canonical import canonical_json
from domain.errors import UsageError

if TYPE_CHECKING:
    from sim.venue.accounts import Ledger
    from sim.venue.market import Markets

NAME = "main"
USUAL = ("USDT=10000",)
_MARKET = "market"  # key of its name in the file
_EVERY_S = 30.0  # between two writings

log = structlog.get_logger("venue")


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


@dataclass(frozen=True, slots=True)
class AccountFile:
    """The file that keeps the account, of one market.

    Parameters
    ----------
    market : its name; what was bought in one is worth something else in another.
    """

    path: Path
    market: str

    def read(self) -> Ledger | None:
        """Return the accounts that it keeps; None if there is none yet.

        Raises
        ------
        UsageError : if it keeps something else, or the accounts of another market.
        """
        from sim.venue.accounts import Ledger

        if not self.path.exists():
            return None
        try:
            state = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise _strange(self.path) from error
        if not isinstance(state, dict):
            raise _strange(self.path)
        market = state.pop(_MARKET, self.market)
        if market != self.market:
            raise UsageError(
                "--state", f"must keep an account of this market, {self.market}", str(market),
                "Give the --data and --seed that it was made with, or another file.",
            )  # fmt: skip
        return Ledger.restored(state)

    def write(self, ledger: Ledger) -> None:
        """Write the accounts, whole or not at all.

        Raises
        ------
        UsageError : if that cannot be done.
        """
        part = self.path.with_name(f".{self.path.name}.part")
        body = canonical_json({_MARKET: self.market, **ledger.state()})
        try:
            part.write_text(body, "utf-8")
            part.replace(self.path)
        except OSError as error:
            raise UsageError(
                "--state", f"must be a file that can be written ({error.strerror})", str(self.path)
            ) from error

    async def keep(self, ledger: Ledger) -> NoReturn:
        """Write them every half minute, until the task is cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                self.write(ledger)
            except UsageError as error:
                log.warning("account_not_kept", why=str(error))


def _strange(path: Path) -> UsageError:
    return UsageError("--state", "must be a file that conclave venue wrote", path.name)


def opened(markets: Markets, amounts: dict[str, Decimal], at_ms: int = 0) -> Ledger:
    """Return a ledger of one account with these balances in both wallets.

    Parameters
    ----------
    at_ms : market time; 0 = when it is traded with first.
    """
    from sim.venue.accounts import Account, Ledger

    settled = {listing.quote for listing in markets.listings.values()}
    return Ledger({NAME: Account.funded(NAME, amounts, settled)}, at=at_ms)
