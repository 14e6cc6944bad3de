"""A backup as a process of its own, so that copying and verifying delays no decision."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from domain.errors import ConclaveError
from serving.processes import die_with_parent

_POLITE = 10  # niceness: decisions come first


def main(argv: list[str] | None = None) -> None:
    """Make one backup, drop old ones, and print what came of it as one line of JSON."""
    parser = argparse.ArgumentParser(prog="serving.backup_process")
    parser.add_argument("database", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--now", type=int, required=True, help="wall time, ms")
    parser.add_argument("--hourly", type=int, required=True)
    parser.add_argument("--daily", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args(argv)
    die_with_parent(arguments.parent)
    os.nice(_POLITE)
    try:
        told: Mapping[str, Any] = _make(arguments)
    except ConclaveError as error:
        told = {"error": error.message, "hint": error.hint}
    except OSError as error:
        told = {"error": f"{error.filename or 'disk'}: {error.strerror}", "hint": ""}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.exit(1 if "error" in told else 0)


def _make(arguments: argparse.Namespace) -> dict[str, Any]:
    from storage.engine import open_database, sqlite_url
    from storage.rotation import make_backup, prune

    engine = open_database(sqlite_url(arguments.database))
    try:
        made = make_backup(engine, arguments.folder, arguments.now)
    finally:
        engine.dispose()
    gone = prune(arguments.folder, arguments.hourly, arguments.daily)
    return {
        "path": str(made.path), "rows": made.head_seq, "head_hash": made.head_hash,
        "deleted": len(gone),
    }  # fmt: skip


if __name__ == "__main__":
    main()
