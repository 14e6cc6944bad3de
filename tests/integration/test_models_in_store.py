"""Models that machines share through an object store: a real S3 server, several MODELS_DIRs."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agents.artifacts import FolderStore, load, promoted, versions
from agents.host import threaded
from agents.mirror import LOOK_SECONDS, Mirror, Unreachable
from domain.errors import ModelError, SettingError
from domain.ports import Needs
from serving.bootstrap.agents import live_agents
from serving.bootstrap.service import council_service
from serving.model_store import mirror_of
from serving.plan import RunPlan
from serving.promotion import load_named, smoke_states
from serving.settings import Settings, load_settings
from tests.command_line import COUNCIL_OF_FOUR, YEAR_2024, Cli, spot
from tests.model_files import SECOND, made, wider
from tests.object_store import KEY, SECRET, ObjectStore, free_port, serve_objects

_PLACES = count()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the S3 client reads them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with serve_objects(tmp_path_factory.mktemp("objects")) as running:
        yield running


@pytest.fixture
def objects(server: ObjectStore) -> ObjectStore:
    """The server, and a place in it that nobody used."""
    return replace(server, prefix=f"models-{next(_PLACES)}")


class Hand:
    """A clock that is set by hand, seconds."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def machine(folder: Path, store: ObjectStore, **env: str) -> Settings:
    """Settings of a machine with a folder of its own."""
    told = {"VAR_DIR": str(folder), "CONCLAVE_MODELS__AGENTS": COUNCIL_OF_FOUR, **store.env, **env}
    return load_settings(env=told, profile="demo")


def reach(here: Settings, clock: Hand | None = None) -> Mirror:
    mirror = mirror_of(here, clock or Hand())
    assert mirror is not None
    return mirror


def shared(folder: Path, store: ObjectStore, times: float = 1.1, at: str = SECOND) -> str:
    """Make a model of ``risk`` on a machine, push and promote it; return its version."""
    from agents.artifacts import promote

    here = machine(folder, store)
    root, mirror = here.data.models_dir, reach(here)
    version = made(root, "risk", at, params=wider(times)).version
    mirror.bring("risk/")
    mirror.push("risk", version)
    promote(root, "risk", version, mirror.publish)
    return version


def on(root: Path, store: ObjectStore) -> tuple[str, ...]:
    return ("--set", f"data.models_dir={root}", *store.words)


def in_use(cli: Cli, *words: str) -> dict[str, Any]:
    rows = json.loads(cli("models", "list", "--json", *words)[1])["items"]
    return next(row for row in rows if row["name"] == "risk" and row["in_use"])


# Commands


@pytest.mark.long
def test_models_when_promoted_on_one_machine_then_another_lists_uses_and_rolls_them_back(
    cli: Cli, tmp_path: Path, objects: ObjectStore
) -> None:
    one, two = on(tmp_path / "one", objects), on(tmp_path / "two", objects)
    first = made(tmp_path / "one", "risk", params=wider(1.1)).version
    code, out, _ = cli("models", "promote", "risk", "--json", *one)
    assert (code, json.loads(out)["version"]) == (0, first)
    assert objects.keys(f"risk/{first}") == ["card.json", "params.json"]
    row = in_use(cli, *two)
    assert (row["version"], row["place"], row["problem"]) == (first, "models_dir", "")
    here, there = (load(tmp_path / name / "risk" / first) for name in ("one", "two"))
    assert (here.card, here.contents) == (there.card, there.contents)
    second = made(tmp_path / "two", "risk", SECOND, params=wider(1.2)).version
    assert cli("models", "promote", "risk", *two)[0] == 0
    assert in_use(cli, *one)["version"] == second
    assert json.loads(cli("models", "rollback", "risk", "--json", *one)[1])["version"] == first
    assert in_use(cli, *two)["version"] == first
    assert json.loads(cli("models", "rollback", "risk", "--json", *two)[1])["version"] is None
    assert in_use(cli, *one)["place"] == "shipped"
    code, _, err = cli("models", "rollback", "risk", *one)
    assert code == 1
    assert "no promoted version" in err


@pytest.mark.long
def test_models_when_the_store_is_down_then_promote_changes_nothing_and_list_shows_what_is_here(
    cli: Cli, tmp_path: Path
) -> None:
    nobody = ObjectStore(free_port())
    root = tmp_path / "one"
    version = made(root, "risk", params=wider(1.1)).version
    code, _, err = cli("models", "promote", "risk", *on(root, nobody))
    assert code == 1
    assert f"model store {nobody.url}" in err
    assert "MODELS_URL" in err
    assert promoted(root, "risk") is None
    told = json.loads(cli("models", "list", "--json", *on(root, nobody))[1])
    assert version in [row["version"] for row in told["items"]]
    assert nobody.url in told["problems"][0]
    checks = json.loads(cli("doctor", "--json", *on(root, nobody))[1])["findings"]
    models = next(check for check in checks if check["name"] == "models")
    assert not models["ok"]
    assert nobody.url in models["detail"]
    for secret in (KEY, SECRET):
        assert secret not in err + json.dumps([told, checks])


@pytest.mark.long
def test_train_when_the_store_is_down_then_the_model_is_kept_and_promote_takes_it_there_later(
    cli: Cli, tmp_path: Path, objects: ObjectStore
) -> None:
    root, bars = tmp_path / "one", spot(tmp_path, 6_000, YEAR_2024)
    train = ("train", "volatility", "--data", bars, "--end", "2024-02-01")
    code, _, err = cli(*train, *on(root, ObjectStore(free_port())))
    [version] = versions(root, "risk")
    assert code == 1
    assert f"conclave models promote risk {version}" in err
    assert cli("models", "promote", "risk", version, *on(root, objects))[0] == 0
    assert in_use(cli, *on(tmp_path / "two", objects))["version"] == version


@pytest.mark.long
def test_train_when_there_is_a_store_then_every_machine_has_the_new_version(
    cli: Cli, tmp_path: Path, objects: ObjectStore
) -> None:
    bars = spot(tmp_path, 6_000, YEAR_2024)
    train = ("train", "volatility", "--data", bars, "--end", "2024-02-01", "--json")
    code, out, _ = cli(*train, *on(tmp_path / "one", objects))
    assert code == 0
    two = on(tmp_path / "two", objects)
    assert in_use(cli, *two)["place"] == "shipped"  # trained is not promoted
    rows = json.loads(cli("models", "list", "--json", *two)[1])["items"]
    assert json.loads(out)["version"] in [row["version"] for row in rows]


# Machines that follow


def test_council_when_a_model_lies_in_the_store_alone_then_it_answers_with_it(
    tmp_path: Path, objects: ObjectStore
) -> None:
    version = shared(tmp_path / "trainer", objects)
    here = machine(tmp_path / "replica", objects)
    assert not here.data.models_dir.exists()
    agents = live_agents(here)
    [model] = agents["risk"].card.models
    assert (model.version, model.place, model.problem) == (version, "models_dir", "")
    plan = RunPlan("replay", "test", "demo", None, data=(), local=True)
    council = council_service(plan, here, {name: threaded(a) for name, a in agents.items()})
    states = smoke_states("BTC/USDT", "5m", Needs(bars=600, feature_rows=1))
    signal = asyncio.run(council.agents["risk"].opine(states[-1:]))
    wanted = load_named("risk", machine(tmp_path / "trainer", objects)).agent.opine(states[-1:])
    assert signal == wanted
    assert signal[0].model_version == agents["risk"].version
    assert signal[0].model_version != FolderStore().open("risk").card.identity


def test_agent_when_another_version_is_promoted_elsewhere_then_it_moves_at_its_next_look(
    tmp_path: Path, objects: ObjectStore
) -> None:
    first = shared(tmp_path / "trainer", objects)
    here, clock = machine(tmp_path / "replica", objects), Hand()
    mirror = reach(here, clock)
    mirror.follow("risk")
    root = here.data.models_dir
    assert promoted(root, "risk") == first
    second = shared(tmp_path / "trainer", objects, 1.2, "2027-01-03")
    mirror.follow("risk")
    assert promoted(root, "risk") == first  # it looked a moment ago
    clock.at += LOOK_SECONDS
    mirror.follow("risk")
    assert promoted(root, "risk") == second
    store = FolderStore(root, fetch=mirror.fetch)
    assert store.open("risk").card.version == second


def test_gate_when_it_is_promoted_elsewhere_then_the_desk_has_it_at_its_next_look(
    tmp_path: Path, objects: ObjectStore
) -> None:
    pytest.importorskip("numba", reason="needs numba")
    from agents.artifacts import promote
    from serving.gate_models import GateFollower
    from serving.rules import market_for
    from tests.gate_scenes import kept

    name, clock = "gate/ema_cross", Hand()
    told = {"CONCLAVE_DECISION__GATE": "earned", "CONCLAVE_EXECUTION__STRATEGY": "ema_cross"}
    here = machine(tmp_path / "desk", objects, **told)
    market = market_for(here, ["BTC/USDT"], {"BTC/USDT": 95_000.0}, keep_market=False)
    follower = GateFollower(here, market, "BTC/USDT", reach(here, clock))
    shipped = follower.gate.view()["version"]
    trainer = machine(tmp_path / "trainer", objects)
    version, mirror = kept(trainer.data.models_dir).name, reach(trainer)
    mirror.push(name, version)
    promote(trainer.data.models_dir, name, version, mirror.publish)
    clock.at += LOOK_SECONDS
    follower.refresh()
    follower.gate.observe([])
    assert follower.gate.view()["version"] == version != shipped


def test_agent_when_the_store_is_down_at_its_start_then_it_answers_with_its_copy_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with ExitStack() as up:
        running = up.enter_context(serve_objects(tmp_path / "objects"))
        version = shared(tmp_path / "trainer", running)
        here = machine(tmp_path / "replica", running)
        before = live_agents(here, ["risk"])["risk"].card
        up.close()
        agent = live_agents(here, ["risk"])["risk"]
        assert (agent.version, agent.card.models[0].version) == (before.version, version)
        assert agent.card.problem.startswith(f"model store {running.url}: must answer: ")
        assert "used as they were" in agent.card.problem
        [told] = agent.card.problems
        clock = Hand()
        mirror = reach(here, clock)
        mirror.follow("risk")
        assert mirror.problem("risk")
        up.enter_context(serve_objects(tmp_path / "objects", running.port))
        clock.at += LOOK_SECONDS
        mirror.follow("risk")
        assert mirror.problem("risk") == ""
    assert f"{running.url} answers again" in caplog.text
    for secret in (KEY, SECRET):
        assert secret not in caplog.text + told


def test_agent_when_an_object_was_changed_then_it_is_refused_and_what_stood_before_serves(
    tmp_path: Path, objects: ObjectStore
) -> None:
    good = shared(tmp_path / "trainer", objects)
    bad = shared(tmp_path / "trainer", objects, 1.2, "2027-01-03")
    objects.put(f"risk/{bad}/params.json", objects.get(f"risk/{good}/params.json"))
    here = machine(tmp_path / "replica", objects)
    [model] = live_agents(here, ["risk"])["risk"].card.models
    assert (model.version, model.wanted) == (good, bad)
    assert "sha256" in model.problem
    assert versions(here.data.models_dir, "risk") == [good]  # nothing of it came here
    [told] = reach(here).bring()
    assert "sha256" in told
    left = [path.name for path in (here.data.models_dir / "risk").iterdir()]
    assert sorted(left) == sorted([good, "promoted.json"])


# Reading and writing


def test_push_when_it_was_cut_off_then_nobody_sees_the_version_until_it_is_whole(
    tmp_path: Path, objects: ObjectStore
) -> None:
    here = machine(tmp_path / "trainer", objects)
    version = made(here.data.models_dir, "risk").version
    objects.put(f"risk/{version}/params.json", b"{")  # as far as it came
    other = machine(tmp_path / "replica", objects)
    assert reach(other).bring() == []
    assert versions(other.data.models_dir, "risk") == []
    reach(here).push("risk", version)
    assert reach(other).bring() == []
    assert versions(other.data.models_dir, "risk") == [version]
    reach(here).push("risk", version)  # again changes nothing


def test_push_when_the_store_has_other_bytes_under_the_version_then_refused(
    tmp_path: Path, objects: ObjectStore
) -> None:
    version = shared(tmp_path / "trainer", objects)
    other = machine(tmp_path / "other", objects)
    assert made(other.data.models_dir, "risk", SECOND, params=wider(1.3)).version == version
    with pytest.raises(ModelError, match="versions never change"):
        reach(other).push("risk", version)


def test_fetch_when_a_card_is_of_another_version_then_refused(
    tmp_path: Path, objects: ObjectStore
) -> None:
    version = shared(tmp_path / "trainer", objects)
    newer = version.replace("20270102", "20280102")
    for file in objects.keys(f"risk/{version}"):
        objects.put(f"risk/{newer}/{file}", objects.get(f"risk/{version}/{file}"))
    here = machine(tmp_path / "replica", objects)
    with pytest.raises(ModelError, match="card of that version"):
        reach(here).fetch("risk", newer)
    assert versions(here.data.models_dir, "risk") == []


@pytest.mark.parametrize("file", ["../escape.json", "model.pkl"])
def test_fetch_when_a_card_names_a_file_that_must_not_be_there_then_nothing_is_written(
    tmp_path: Path, objects: ObjectStore, file: str
) -> None:
    version = shared(tmp_path / "trainer", objects)
    card = f"risk/{version}/card.json"
    body = {**json.loads(objects.get(card)), "files": {file: "0" * 64}}
    objects.put(card, json.dumps(body).encode())
    here = machine(tmp_path / "replica", objects)
    with pytest.raises(ModelError, match=r"plain \.json"):
        reach(here).fetch("risk", version)
    assert list((here.data.models_dir / "risk").iterdir()) == []


def test_follow_when_a_pointer_is_no_pointer_then_the_one_before_stays(
    tmp_path: Path, objects: ObjectStore
) -> None:
    version = shared(tmp_path / "trainer", objects)
    here, clock = machine(tmp_path / "replica", objects), Hand()
    mirror = reach(here, clock)
    mirror.follow("risk")
    objects.put("risk/promoted.json", b'{"version":"../../etc"}')
    clock.at += LOOK_SECONDS
    mirror.follow("risk")
    assert promoted(here.data.models_dir, "risk") == version
    assert "must name a version" in mirror.problem("risk")


def test_fetch_when_many_ask_at_once_then_each_has_it_whole(
    tmp_path: Path, objects: ObjectStore
) -> None:
    version = shared(tmp_path / "trainer", objects)
    here = machine(tmp_path / "replica", objects)
    mirrors = [reach(here) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(mirrors[n % 4].fetch, "risk", version) for n in range(16)]:
            done.result()
    assert [p.name for p in (here.data.models_dir / "risk").iterdir()] == [version]
    assert load(here.data.models_dir / "risk" / version).card.version == version


def test_store_when_the_secret_is_wrong_then_it_says_so_without_any_secret(
    tmp_path: Path, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-1c88")
    with pytest.raises(Unreachable, match="SIGNATURE_DOES_NOT_MATCH") as caught:
        reach(machine(tmp_path, objects)).bring()
    for secret in (KEY, SECRET, "another-secret-1c88"):
        assert secret not in f"{caught.value} {caught.value.__cause__!r}"


def test_store_when_there_is_no_such_bucket_then_it_names_it(
    tmp_path: Path, objects: ObjectStore
) -> None:
    here = machine(tmp_path, objects, MODELS_URL="s3://nobodys/models")
    with pytest.raises(Unreachable, match="bucket 'nobodys'"):
        reach(here).bring()


@pytest.mark.parametrize(
    "url", ["s3://KEY:SECRET@bucket/x", "http://host/x", "s3://", "s3://bucket/a?b", "/srv/models"]
)
def test_settings_when_the_url_is_no_bucket_then_refused(url: str) -> None:
    with pytest.raises(SettingError, match="MODELS_URL") as caught:
        load_settings(env={"MODELS_URL": url}, profile=None)
    assert "SECRET" not in str(caught.value)


def test_agent_when_models_dir_cannot_be_written_then_it_says_so_and_what_ships_serves(
    tmp_path: Path, objects: ObjectStore
) -> None:
    shared(tmp_path / "trainer", objects)
    (tmp_path / "file").write_text("")
    here = machine(tmp_path / "replica", objects, MODELS_DIR=str(tmp_path / "file" / "models"))
    agent = live_agents(here, ["risk"])["risk"]
    assert agent.card.models[0].place == "shipped"
    assert "MODELS_DIR: must be a folder that can be written to" in agent.card.problem
