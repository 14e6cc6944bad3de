"""Named tokens: made once, kept as hashes, revoked for good."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from domain.errors import NotFound, SettingError, UsageError
from serving.tokens import Known, TokenFile, hash_of

NOW = 1_735_689_600_000


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "var" / "tokens.json")


def test_token_when_made_then_the_file_is_private_and_holds_its_hash_only(file: TokenFile) -> None:
    token = file.create("watch", ["signal", "read"], NOW)
    text = file.path.read_text()
    assert token not in text
    assert json.loads(text) == {
        "tokens": [{
            "name": "watch", "sha256": hash_of(token), "scopes": ["read", "signal"],
            "created_at": "2025-01-01T00:00:00Z", "revoked_at": None,
        }]
    }  # fmt: skip
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert len(token) > 40


@pytest.mark.parametrize(
    ("name", "scopes", "says"),
    [("", ["read"], "1–32"), ("A", ["read"], "1–32"), ("a b", ["read"], "1–32"),
     ("x" * 33, ["read"], "1–32"), ("a", [], "needs a scope"), ("a", ["everything"], "one of")],
)  # fmt: skip
def test_token_when_name_or_scope_is_none_then_nothing_is_made(
    file: TokenFile, name: str, scopes: list[str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        file.create(name, scopes, NOW)
    assert file.read() == []


def test_token_when_revoked_then_it_stays_listed_and_its_name_stays_taken(file: TokenFile) -> None:
    file.create("watch", ["read"], NOW)
    assert file.revoke("watch", NOW + 1000).revoked_at == "2025-01-01T00:00:01Z"
    assert file.revoke("watch", NOW + 9000).revoked_at == "2025-01-01T00:00:01Z"
    with pytest.raises(UsageError, match="is, or was, another's"):
        file.create("watch", ["read"], NOW)
    with pytest.raises(NotFound):
        file.revoke("nobody", NOW)


def test_tokens_when_many_are_made_at_once_then_none_is_lost(file: TokenFile) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: file.create(f"t{n}", ["read"], NOW), range(24)))
    assert {token.name for token in file.read()} == {f"t{n}" for n in range(24)}
    assert sorted(path.name for path in file.path.parent.iterdir()) == [
        "tokens.json",
        "tokens.lock",
    ]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"tokens": 5}', '{"tokens": [{"name": "a"}]}', '{"tokens": [], "more": 1}',
     '{"tokens": [{"name": "a", "sha256": "plain", "scopes": ["read"]}]}'],
)  # fmt: skip
def test_tokens_when_the_file_is_damaged_then_it_is_an_error_and_nobody_gets_in(
    file: TokenFile, content: str
) -> None:
    file.create("watch", ["read"], NOW)
    file.path.write_text(content)
    with pytest.raises(SettingError, match="tokens_file: must be a readable file of tokens"):
        file.read()
    assert Known(file).tokens() == {}


def test_known_when_the_file_is_not_there_then_there_are_none(file: TokenFile) -> None:
    assert Known(file).tokens() == {}
