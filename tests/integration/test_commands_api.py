"""``conclave token`` and ``conclave jobs`` through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.bootstrap.storage import open_storage
from storage.audit import Audit
from tests.api_world import settings_in
from tests.command_line import Cli, perp


def test_token_when_made_listed_and_revoked_then_it_is_shown_once(cli: Cli) -> None:
    code, token, err = cli("token", "create", "watch", "--scope", "read", "--scope", "risk")
    assert (code, token[:3]) == (0, "cv_")
    assert "Shown this once" in err
    code, out, _ = cli("token", "list", "--json")
    (row,) = json.loads(out)["items"]
    assert (code, row["name"], row["scopes"], row["revoked_at"]) == (
        0,
        "watch",
        ["read", "risk"],
        None,
    )
    assert token.strip() not in out
    assert "sha256" not in out
    assert cli("token", "create", "watch", "--scope", "read")[0] == 2
    assert cli("token", "create", "other", "--scope", "all")[0] == 2
    assert cli("token", "revoke", "watch")[0] == 0
    assert json.loads(cli("token", "list", "--json")[1])["items"][0]["revoked_at"] is not None
    assert cli("token", "revoke", "nobody")[0] == 2


def test_audit_when_shown_then_the_newest_act_is_first(cli: Cli, tmp_path: Path) -> None:
    audit = Audit(open_storage(settings_in(tmp_path / "var")))
    for number, action in enumerate(("POST /v1/risk/kill", "POST /v1/risk/arm")):
        audit.note(1000 * number, "anna", action, {"status": 200, "request_id": "a1"})
    code, out, _ = cli("token", "audit", "--json")
    assert code == 0
    assert json.loads(out)["items"][0] == {
        "at": "1970-01-01T00:00:01Z", "by": "anna", "action": "POST /v1/risk/arm", "status": 200,
        "request_id": "a1",
    }  # fmt: skip
    assert "POST /v1/risk/kill" in cli("token", "audit")[1]


@pytest.mark.long
def test_jobs_when_added_run_and_listed_then_the_result_is_there(cli: Cli, tmp_path: Path) -> None:
    made = perp(tmp_path)
    raw = tmp_path / "var" / "data" / "01_raw"
    raw.mkdir(parents=True)
    made.rename(raw / made.name)
    code, out, _ = cli("jobs", "add", "backtest", "--arg", f"data={made.name}", "--arg",
                       "profile=exercise", "--json")  # fmt: skip
    job = json.loads(out)
    assert (code, job["state"], job["by"]) == (0, "queued", "cli")
    other = json.loads(cli("jobs", "add", "lookahead", "--arg", f"data={made.name}", "--arg",
                           "agents=technical,climatology", "--json")[1])  # fmt: skip
    assert other["args"]["agents"] == ["technical", "climatology"]
    assert json.loads(cli("jobs", "cancel", str(other["id"]), "--json")[1])["state"] == "cancelled"
    assert cli("jobs", "cancel", str(other["id"]))[0] == 2
    assert json.loads(cli("jobs", "run", "--once", "--json")[1]) == {"jobs": 1}
    rows = json.loads(cli("jobs", "list", "--json")[1])["items"]
    assert [row["state"] for row in rows] == ["cancelled", "done"]
    assert "exit 0 after" in cli("jobs", "list")[1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("dance", "--arg", "data=a.csv"), "job: must be one of train"),
        (("backtest", "--arg", "data"), "--arg: must be NAME=VALUE"),
        (("backtest", "--arg", "data=../a.csv"), "data: "),
        (("backtest", "--arg", "data=a.csv"), "file: is not in DATA_DIR_RAW"),
        (("backtest", "--arg", "data=a.csv", "--arg", "html=x"), "html: "),
    ],
)
def test_jobs_when_what_is_asked_is_not_on_the_list_then_it_is_refused(
    cli: Cli, words: tuple[str, ...], says: str
) -> None:
    code, _, err = cli("jobs", "add", *words)
    assert code == 2
    assert says in err
