"""Everything that can go wrong, as one tree.

ConclaveError                 exit code, machine code and hint for whoever reads it
├── UsageError            2   a command was called in a way that makes no sense
│   └── NotFound              the thing asked for is not there
├── SettingError          2   a setting is unknown, out of range or contradicts another
├── DataRefused           3   market data that must not be used
├── ServiceUnreachable    4   a process that should answer does not
│   └── AmbiguousOutcome      nobody can say whether an order has arrived
├── LedgerError           1   the ledger said no
│   ├── DuplicateRecord       the same key again with another content
│   ├── ChainBroken           a stored row no longer matches its hash
│   └── DatabaseDamaged       the file itself can no longer be read
├── ModelError            1   an artifact that cannot or must not be loaded
└── CheckFailed           1   a checker found a difference
"""

from __future__ import annotations

from reprlib import Repr


class _Short(Repr):
    """Values as errors show them: whole where a person can read them, cut where nobody could."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxstring = self.maxother = self.maxlong = 400
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 20


_SHORT = _Short()


class ConclaveError(Exception):
    """Say what is wrong, which rule it breaks, the value seen, and what to do.

    Parameters
    ----------
    what : the thing concerned, e.g. a setting's or a file's name.
    rule : the rule it breaks, as a full clause.
    value : the value seen (shown with ``repr``), omitted when None.
    hint : what to do next, e.g. ``Did you mean "PROB_MIN"?``.
    """

    code = "error"
    exit_code = 1

    def __init__(self, what: str, rule: str = "", value: object = None, hint: str = "") -> None:
        self.what, self.rule, self.value, self.hint = what, rule, value, hint
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The error in one line, without the hint."""
        text = f"{self.what}: {self.rule}" if self.rule else self.what
        return text if self.value is None else f"{text} (got {_SHORT.repr(self.value)})"

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class UsageError(ConclaveError):
    """A command was called in a way that makes no sense."""

    code, exit_code = "usage", 2


class NotFound(UsageError):
    """The thing asked for is not there."""

    code = "not_found"


class SettingError(ConclaveError):
    """A setting is unknown, out of range or contradicts another one."""

    code, exit_code = "setting", 2


class DataRefused(ConclaveError):
    """Market data that must not be used."""

    code, exit_code = "data_refused", 3


class ServiceUnreachable(ConclaveError):
    """A process that should answer does not."""

    code, exit_code = "service_unreachable", 4


class AmbiguousOutcome(ServiceUnreachable):
    """Nobody can say whether an order has arrived: ask after it, never send it again."""

    code = "ambiguous"


class LedgerError(ConclaveError):
    """The ledger said no."""

    code = "ledger"


class DuplicateRecord(LedgerError):
    """The same key again, with another content."""

    code = "duplicate_record"


class ChainBroken(LedgerError):
    """A stored row no longer matches its hash."""

    code = "chain_broken"


class DatabaseDamaged(LedgerError):
    """The database's file can no longer be read as one."""

    code = "database_damaged"


class ModelError(ConclaveError):
    """An artifact that cannot or must not be loaded."""

    code = "model"


class CheckFailed(ConclaveError):
    """A checker found a difference."""

    code = "check_failed"
