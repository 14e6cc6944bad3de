"""Settings: layers, names, refusals, profiles, the files that ship."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.errors import SettingError
from serving.settings import CONFIGS_DIR, FLAT, SettingErrors, Settings, load_settings, profiles
from serving.settings.models import AGENTS
from serving.settings.names import KEYS, from_environment, is_secret
from serving.settings.reference import PROFILED, default_yaml, dotenv_example

DOCUMENTED = """
SYMBOLS TIMEFRAME PRED_HORIZON_STEPS ENCODER_LENGTH EXCHANGE EXCHANGE_URL PAPER_MODE LIVE_MODE
RISK_MAX
PROB_MIN MIN_EXPECTED_RETURN FEES_BPS MIN_FORECASTERS VAR_DIR DATA_DIR_RAW DATA_DIR_PROCESSED
MODELS_DIR LOGS_DIR DATABASE_URL API_HOST API_PORT RAY_DASHBOARD_PORT API_TOKEN TELEGRAM_BOT_TOKEN
TELEGRAM_CHAT_ID EXECUTION_MARKET ON_SHUTDOWN AUTO_PROMOTE CONCLAVE_SAMPLES TRIALS_LOG
XAI_API_KEY ANTHROPIC_API_KEY SOURCE SERVE_URL DESK_PORT MODELS_URL
EXCHANGE_API_KEY EXCHANGE_API_SECRET TESTNET_API_KEY TESTNET_API_SECRET
"""


def load(profile: str | None = None, /, **env: str) -> Settings:
    return load_settings(env=env, profile=profile)


def yaml_file(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# Defaults


def test_settings_when_nothing_is_set_then_the_documented_defaults_hold() -> None:
    s = load()

    assert s.data.symbols == ("BTC/USDT",)
    assert (s.data.timeframe, s.data.pred_horizon_steps, s.data.exchange) == ("5m", 5, "binance")
    assert s.features.encoder_length == 60
    assert (s.execution.paper_mode, s.execution.live_mode) == (True, False)
    assert (s.decision.risk_max, s.decision.prob_min) == (0.30, 0.60)
    assert (s.decision.min_expected_return, s.execution.fees_bps) == (0.002, None)
    assert (s.consensus.min_forecasters, s.models.auto_promote) == (2, False)
    assert (s.serving.api_host, s.serving.api_port) == ("127.0.0.1", 8000)
    assert (s.serving.ray_dashboard_port, s.execution.market) == (8265, "perp")
    assert (s.execution.on_shutdown, s.execution.initial_cash) == ("keep", 10_000)
    assert s.data.samples is None


def test_settings_when_var_dir_is_set_then_folders_and_database_lie_under_it(
    tmp_path: Path,
) -> None:
    s = load(VAR_DIR=str(tmp_path), LOGS_DIR="elsewhere")

    assert s.data.raw_dir == tmp_path / "data/01_raw"
    assert s.data.processed_dir == tmp_path / "data/04_processed"
    assert s.data.models_dir == tmp_path / "models"
    assert s.data.logs_dir == Path("elsewhere")
    assert s.database_url() == f"sqlite:///{tmp_path}/ledger.db"


def test_settings_when_the_code_and_the_base_file_are_compared_then_they_agree() -> None:
    assert Settings().describe() == load().describe()


def test_settings_when_made_directly_then_the_environment_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("data", '{"timeframe": "1h"}')

    assert Settings().data.timeframe == "5m"


# Names


def test_settings_when_names_are_listed_then_every_documented_one_is_there() -> None:
    assert sorted(FLAT) == sorted(DOCUMENTED.split())


def test_settings_when_fields_of_all_groups_are_compared_then_no_name_is_there_twice() -> None:
    fields = [key.field for key in KEYS]

    assert len(fields) == len(set(fields))


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_settings_when_a_variable_names_group_or_field_then_it_is_understood(
    key: tuple[str, str],
) -> None:
    group, field = key

    assert from_environment(f"CONCLAVE_{group.upper()}__{field.upper()}") == key
    assert from_environment(f"CONCLAVE_{field.upper()}") == key


@pytest.mark.parametrize("name", sorted(FLAT))
def test_settings_when_a_flat_name_has_the_prefix_then_it_is_the_same_setting(name: str) -> None:
    assert from_environment(f"CONCLAVE_{name.removeprefix('CONCLAVE_')}") == FLAT[name]


@pytest.mark.parametrize(
    "name",
    ["PROB_MIN", "CONCLAVE_PROB_MIN", "CONCLAVE_DECISION__PROB_MIN"],
)
def test_settings_when_the_environment_names_a_setting_then_it_is_read(name: str) -> None:
    assert load(**{name: "0.55"}).decision.prob_min == 0.55


@pytest.mark.parametrize("name", ["PROB_MIN", "prob_min", "--prob-min", "decision.prob_min"])
def test_settings_when_a_flag_names_a_setting_then_it_is_read(name: str) -> None:
    s = load_settings(env={}, profile=None, overrides={name: 0.55})

    assert s.decision.prob_min == 0.55


def test_settings_when_variables_are_not_ours_then_they_are_ignored() -> None:
    load(PATH="/bin", SYMBOL="x", conclave_nothing="1", RAY_ADDRESS="auto")


# Layers


def test_settings_when_layers_disagree_then_the_later_one_wins(tmp_path: Path) -> None:
    first = yaml_file(tmp_path, "decision: {prob_min: 0.53, delta: 0.01, risk_max: 0.2}", "a.yaml")
    second = yaml_file(tmp_path, "decision: {prob_min: 0.54, risk_max: 0.21}", "b.yaml")
    dotenv = yaml_file(tmp_path, "PROB_MIN=0.55\nRISK_MAX=0.22\nMIN_FORECASTERS=3\n", ".env")

    s = load_settings(
        env={"PROB_MIN": "0.56", "MIN_FORECASTERS": "4"},
        profile="demo",
        config_files=[first, second],
        dotenv=dotenv,
        overrides={"MIN_FORECASTERS": 5},
    )

    assert s.decision.min_expected_return == 0.0
    assert s.source_of("MIN_EXPECTED_RETURN") == "configs/demo.yaml"
    assert (s.decision.delta, s.source_of("decision.delta")) == (0.01, str(first))
    assert (s.decision.risk_max, s.source_of("RISK_MAX")) == (0.22, ".env")
    assert (s.decision.prob_min, s.source_of("prob_min")) == (0.56, "environment")
    assert (s.consensus.min_forecasters, s.source_of("MIN_FORECASTERS")) == (5, "flag")
    assert s.source_of("raw_dir") == "default"


def test_settings_when_a_value_is_empty_or_a_flag_none_then_it_is_not_set() -> None:
    s = load_settings(env={"PROB_MIN": "", "TRIALS_LOG": ""}, profile="demo",
                      overrides={"risk_max": None})  # fmt: skip

    assert (s.decision.prob_min, s.decision.risk_max, s.models.trials_log) == (0.52, 0.3, None)


def test_settings_when_an_optional_one_is_none_then_it_is_off() -> None:
    s = load("exercise", CONCLAVE_EXECUTION__FIXED_NOTIONAL="none", CONCLAVE_STOP_ATR="1.5")

    assert (s.execution.fixed_notional, s.execution.stop_atr) == (None, 1.5)


def test_settings_when_the_dotenv_file_is_missing_then_that_is_fine(tmp_path: Path) -> None:
    load_settings(env={}, profile=None, dotenv=tmp_path / ".env")


def test_settings_when_dotenv_quotes_and_comments_then_it_is_read(tmp_path: Path) -> None:
    text = "# mine\nexport SYMBOLS=\"BTC/USDT, ETHUSDT\"  # two\n\nAPI_TOKEN='a$b{c}'\n"

    s = load_settings(env={}, profile=None, dotenv=yaml_file(tmp_path, text, ".env"))

    assert s.data.symbols == ("BTC/USDT", "ETH/USDT")
    assert s.serving.api_token is not None
    assert s.serving.api_token.get_secret_value() == "a$b{c}"


def test_settings_when_pickled_then_values_and_sources_survive() -> None:
    s = load("exercise", API_TOKEN="correct-horse-battery", PROB_MIN="0.7")

    twin = pickle.loads(pickle.dumps(s))

    assert twin.describe(redact=False) == s.describe(redact=False)
    assert twin.source_of("PROB_MIN") == "environment"


def test_settings_when_changed_then_it_is_refused() -> None:
    with pytest.raises(ValidationError):
        load().decision.prob_min = 0.9  # type: ignore[misc]


@pytest.mark.long
@given(st.floats(0.5, 1.0), st.floats(0.0, 1.0))
def test_settings_when_numbers_are_written_as_text_then_they_come_back_exactly(
    prob: float, risk: float
) -> None:
    s = load(PROB_MIN=repr(prob), RISK_MAX=repr(risk))

    assert (s.decision.prob_min, s.decision.risk_max) == (prob, risk)


# Files that ship


@pytest.mark.parametrize("name", profiles())
def test_profile_when_loaded_then_it_is_valid(name: str) -> None:
    assert set(load(name).models.agents) <= set(AGENTS)


def test_profiles_when_listed_then_the_documented_ones_exist() -> None:
    assert profiles() == ("balanced", "chronos-only", "demo", "exercise", "oracle", "strict")


def test_profile_when_strict_then_it_equals_the_defaults() -> None:
    assert load("strict").describe() == load().describe()


@pytest.mark.parametrize("name", ["balanced", "demo"])
def test_profile_when_thresholds_are_low_then_nothing_else_differs(name: str) -> None:
    expected = load().describe()
    expected["decision"] |= {"prob_min": 0.52, "min_expected_return": 0.0}
    expected["journal"] |= {"reflections": "draft"}

    assert load(name).describe() == expected


def test_profile_when_exercise_then_only_what_is_documented_is_off() -> None:
    expected = load().describe()
    expected["execution"] |= {
        "strategy": "ema_cross", "market": "perp", "fixed_notional": 500.0, "stop_atr": None,
        "target_atr": None,
    }  # fmt: skip
    expected["risk"] |= {
        "drawdown_reduction": False, "total_stop": False, "daily_breaker": False,
        "spread_liquidity_filter": False,
    }  # fmt: skip
    expected["journal"] |= {"reflections": "off"}

    assert load("exercise").describe() == expected


def test_profile_when_chronos_only_then_one_forecaster_is_enough() -> None:
    s = load("chronos-only")

    assert s.models.agents == s.models.remote == ("chronos", "microstructure")
    assert (s.consensus.sole, s.consensus.min_forecasters) == ("chronos", 1)


def test_profile_when_oracle_then_one_coin_a_flip_costs_five_basis_points_a_side() -> None:
    s = load("oracle")

    assert (s.execution.fixed_quantity, s.execution.fees_bps) == (1.0, 5.0)
    assert (s.execution.spread_bps, s.execution.slippage_bps, s.execution.impact) == (0.0, 0.0, 0.0)
    assert (s.execution.participation, s.execution.latency) == (None, "none")
    assert (s.execution.funding, s.execution.stop_atr) == (False, None)
    assert not any((s.risk.drawdown_reduction, s.risk.total_stop, s.risk.daily_breaker))
    assert (s.risk.max_exposure_symbol, s.risk.max_exposure_total) == (None, None)
    assert s.journal.reflections == "off"


def test_base_file_when_compared_with_the_code_then_it_has_not_drifted() -> None:
    assert (CONFIGS_DIR / "default.yaml").read_text(encoding="utf-8") == default_yaml()


def test_dotenv_example_when_compared_with_the_code_then_it_has_not_drifted() -> None:
    text = (CONFIGS_DIR.parent / ".env.example").read_text(encoding="utf-8")

    assert text == dotenv_example()
    assert [line.partition("=")[0] for line in text.splitlines() if line[:1].isalpha()] == [*FLAT]


@pytest.mark.parametrize("name", profiles())
def test_dotenv_example_when_used_as_it_is_then_no_profile_changes(name: str) -> None:
    example = CONFIGS_DIR.parent / ".env.example"

    assert load_settings(env={}, profile=name, dotenv=example).describe() == load(name).describe()


@pytest.mark.long
def test_dotenv_example_when_profiles_set_a_name_then_it_is_left_empty() -> None:
    from_profiles = {
        name
        for name in FLAT
        for profile in profiles()
        if load(profile).source_of(name) == f"configs/{profile}.yaml"
    }

    assert from_profiles <= PROFILED


# Secrets


def test_settings_when_they_hold_secrets_then_no_way_of_showing_them_tells() -> None:
    s = load(
        API_TOKEN="s3cr3t-api", TELEGRAM_BOT_TOKEN="123456789:s3cr3t-bot", TELEGRAM_CHAT_ID="-100",
        DATABASE_URL="postgresql+psycopg://me:s3cr3t-db@host:5432/x?sslpassword=s3cr3t-ssl",
        EXCHANGE_API_KEY="s3cr3t-key", EXCHANGE_API_SECRET="s3cr3t-secret",
        TESTNET_API_KEY="s3cr3t-test", TESTNET_API_SECRET="s3cr3t-tested",
    )  # fmt: skip

    for text in (repr(s), str(s), repr(s.describe()), s.model_dump_json()):
        assert "s3cr3t" not in text
    assert s.describe()["serving"]["database_url"].startswith("postgresql+psycopg://me:***@host")
    assert s.describe()["serving"]["database_url"].endswith(":5432/x?sslpassword=***")
    assert "s3cr3t-db" in s.database_url()
    assert set(s.secret_values()) == {
        "s3cr3t-api", "123456789:s3cr3t-bot", "s3cr3t-db", "s3cr3t-ssl",
        "s3cr3t-key", "s3cr3t-secret", "s3cr3t-test", "s3cr3t-tested",
    }  # fmt: skip


def test_settings_when_secret_fields_are_listed_then_they_are_the_documented() -> None:
    assert {key.field for key in KEYS if is_secret(key)} == {
        "api_token", "telegram_bot_token", "database_url", "xai_api_key", "anthropic_api_key",
        "exchange_api_key", "exchange_api_secret", "testnet_api_key", "testnet_api_secret",
    }  # fmt: skip


@pytest.mark.parametrize(
    "env",
    [
        {"DATABASE_URL": "mysql://me:s3cr3t@host/x"},
        {"API_TOKEN": "two s3cr3t words"},
        {"CONCLAVE_API_TOKNE": "s3cr3t"},
        {"CONCLAVE_TELEGRAM_BOT": "s3cr3t"},
        {"CONCLAVE_DB_PASSWORD": "s3cr3t"},
        {"API_TOKEN": "s3cr3t-1", "CONCLAVE_API_TOKEN": "s3cr3t-2"},
    ],
)
def test_settings_when_a_secret_is_refused_then_its_value_is_not_repeated(
    env: dict[str, str],
) -> None:
    with pytest.raises(SettingError) as caught:
        load(**env)

    assert "s3cr3t" not in str(caught.value) + repr(caught.value.value)


def test_exchange_url_when_it_ends_with_a_slash_then_it_is_the_same_address() -> None:
    assert load(EXCHANGE_URL="http://127.0.0.1:8089/").data.exchange_url == "http://127.0.0.1:8089"


# Refusals are in test_settings_refusals.py


def test_setting_errors_when_pickled_then_the_problems_survive() -> None:
    error = SettingErrors([SettingError("A", "must be b", 1, "Try 2."), SettingError("C", "d")])

    twin = pickle.loads(pickle.dumps(error))

    assert str(twin) == str(error)
    assert len(twin.problems) == 2
