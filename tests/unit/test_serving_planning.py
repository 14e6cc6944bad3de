from pathlib import Path

import pytest
import yaml

from serving.plan import RunPlan, known, simulated_world
from serving.planning import Wish, resolve
from serving.settings import load_settings
from tests.data_fixtures import clean_bars, write_parquet

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "serve.yml"


def loading(**env):
    return lambda profile: load_settings(env=env, profile=profile)


@pytest.mark.parametrize(
    ("wish", "env", "kind", "profile"),
    [
        (Wish(), {}, "demo", "demo"),
        (Wish(), {"SOURCE": "demo"}, "demo", "demo"),
        (Wish(profile="balanced"), {"SOURCE": "demo"}, "demo", "balanced"),
        (Wish(source="demo"), {"SOURCE": "live"}, "demo", "demo"),
        (Wish(data=(Path("bars.parquet"),)), {}, "replay", "strict"),
        (Wish(data=(Path("bars.parquet"),)), {"SOURCE": "demo"}, "replay", "strict"),
    ],
)
def test_resolve_when_flags_and_settings_speak_then_flags_win(wish, env, kind, profile):
    found = resolve(wish, loading(**env))
    assert (found.kind, found.wish.profile) == (kind, profile)
    prob_min = {"demo": 0.52, "balanced": 0.52, "strict": 0.6}[profile]
    assert found.settings.decision.prob_min == prob_min


@pytest.mark.parametrize(
    ("wish", "env", "there", "kind", "traded", "profile"),
    [
        (Wish(), {}, True, "live", False, "strict"),
        (Wish(), {}, False, "demo", True, "demo"),
        (Wish(speed="max"), {}, False, "demo", False, "demo"),  # no exchange is as fast as that
        (Wish(source="demo"), {}, True, "demo", False, "demo"),
        (Wish(), {"SOURCE": "live"}, False, "live", False, "strict"),  # never falls back
        (Wish(data=(Path("bars.parquet"),)), {}, True, "replay", False, "strict"),
    ],
)
def test_resolve_when_an_exchange_is_looked_for_then_auto_takes_it_if_it_answers(
    wish, env, there, kind, traded, profile
):
    found = resolve(wish, loading(**env), lambda settings: there)
    assert (found.kind, found.traded, found.wish.profile) == (kind, traded, profile)


def test_plan_when_an_exchange_is_live_then_the_world_is_its_own(tmp_path):
    def plan(**env):
        found = resolve(Wish(source="live"), loading(VAR_DIR=str(tmp_path), **env))
        return found.plan((8000, 8265))

    own, other = plan(), plan(EXCHANGE_URL="http://127.0.0.1:8089")
    assert (own.world, own.speed, own.live, own.simulated) == ("binance", 1.0, True, False)
    assert other.world.startswith("binance-at-")
    assert other.exchange_url == "http://127.0.0.1:8089"
    assert other.simulated  # another server's market is not the exchange's


@pytest.mark.parametrize(("name", "made"), [("simulated", True), ("binance", False)])
def test_plan_when_files_are_replayed_then_the_world_tells_whether_an_exchange_traded_them(
    tmp_path, name, made
):
    path = tmp_path / f"BTCUSDT-{name}-spot-5m.parquet"
    write_parquet(path, clean_bars(400))
    found = resolve(Wish(data=(path,)), loading(VAR_DIR=str(tmp_path / "var")))
    plan = found.plan((8000, 8265))
    assert plan.simulated is simulated_world(plan.world) is made
    assert ("simulated bars" in found.why) is made


def test_plan_when_agents_are_elsewhere_then_that_is_the_address():
    here = RunPlan("demo", "demo-7", "demo", 60.0, port=8123)
    there = RunPlan("demo", "demo-7", "demo", 60.0, serve_url="http://conclave-serve-svc:8000/")
    assert here.address == "http://127.0.0.1:8123"
    assert there.address == "http://conclave-serve-svc:8000"


def test_known_when_a_plan_lies_in_a_file_then_it_is_read(tmp_path):
    plan = RunPlan("demo", "demo-7", "demo", 60.0)
    assert known(plan) is plan
    assert known(str(plan.save(tmp_path))) == plan


def built(args):
    from ray.serve._private.build_app import build_app

    from serving.app import build

    made = build_app(build(args), name="conclave", default_runtime_env={})
    return made.ingress_deployment_name, {one.name: one for one in made.deployments}


def test_build_when_there_is_no_plan_then_the_environment_says_what_runs(monkeypatch, tmp_path):
    for name, value in {"VAR_DIR": str(tmp_path), "SOURCE": "demo"}.items():
        monkeypatch.setenv(name, value)
    ingress, made = built({"profile": "balanced"})
    assert ingress == "council"
    assert set(made) == {"council", "baseline", "chronos", "tft", "microstructure", "risk"}
    [plan, here] = made["council"].init_args
    assert (plan.source, plan.world, plan.profile) == ("demo", "demo-7", "balanced")
    assert here == ["climatology", "technical"]
    assert set(made["council"].init_kwargs) == set(made) - {"council"}


def test_build_when_all_agents_are_light_then_there_is_one_deployment(monkeypatch, tmp_path):
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    _, made = built({"source": "demo", "remote": []})
    assert set(made) == {"council"}


@pytest.mark.long
def test_serve_config_when_read_then_its_deployments_are_those_of_the_application(
    monkeypatch, tmp_path
):
    from ray.serve.schema import ServeDeploySchema

    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    monkeypatch.setenv("SOURCE", "demo")
    config = ServeDeploySchema(**yaml.safe_load(CONFIG.read_text()))
    [app] = config.applications
    _, made = built(app.args)
    assert app.import_path == "serving.app:build"
    assert {one.name for one in app.deployments} == set(made)
