"""A queued job is one row and so one message at its start and one at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.bootstrap.jobs import job_worker
from serving.bootstrap.storage import open_storage
from serving.job_notes import noted
from serving.settings import load_settings
from storage.jobs import Jobs
from tests.bot_api import TOKEN


@pytest.mark.parametrize("name", ["TELEGRAM_BOT_TOKEN", "CONCLAVE_NOTIFY__TELEGRAM_BOT_TOKEN"])
def test_job_when_the_worker_runs_it_then_its_process_does_not_note_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    told = {"VAR_DIR": str(tmp_path), "TELEGRAM_CHAT_ID": "42", name: TOKEN}
    for key, value in told.items():
        monkeypatch.setenv(key, value)
    here = load_settings(env=told, profile=None)
    assert here.notify.wanted
    process = load_settings(env=job_worker(here, lambda: False).env, profile=None)
    with noted(process, "train trend", {}):
        pass
    assert Jobs(open_storage(here)).list(limit=5) == []
