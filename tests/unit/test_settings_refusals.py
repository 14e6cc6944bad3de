"""Settings that are refused, each with name, rule, value and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import SettingError
from serving.settings import SettingErrors, is_loopback, load_settings


def refusal(profile: str | None = None, /, **env: str) -> SettingError:
    with pytest.raises(SettingError) as caught:
        load_settings(env=env, profile=profile)
    return caught.value


def yaml_refusal(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError) as caught:
        load_settings(env={}, profile=None, config_files=[path])
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CONCLAVE_PROB_MNI", "CONCLAVE_PROB_MIN"),
        ("CONCLAVE_SAMPLE", "CONCLAVE_SAMPLES"),
        ("CONCLAVE_DECISION__PROB_MNI", "CONCLAVE_DECISION__PROB_MIN"),
        ("CONCLAVE_DAILY_LOS_MAX", "CONCLAVE_DAILY_LOSS_MAX"),
        ("CONCLAVE_prob_min", "CONCLAVE_PROB_MIN"),
        ("CONCLAVE_decision__prob_min", "CONCLAVE_DECISION__PROB_MIN"),
    ],
)
def test_environment_when_a_name_is_mistyped_then_the_right_one_is_suggested(
    name: str, meant: str
) -> None:
    error = refusal(**{name: "0.7"})

    assert error.what == f"{name} (environment)"
    assert (error.rule, error.value) == ("is no setting", "0.7")
    assert error.hint == f'Did you mean "{meant}"?'
    assert error.exit_code == 2


def test_environment_when_an_unknown_name_is_empty_then_it_is_still_refused() -> None:
    assert "CONCLAVE_QQQQ" in refusal(CONCLAVE_QQQQ="").what


def test_environment_when_two_names_of_a_setting_disagree_then_it_is_refused() -> None:
    error = refusal(PROB_MIN="0.6", CONCLAVE_PROB_MIN="0.7")

    assert "contradicts another name of PROB_MIN" in error.rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "decision: {prob_mni: 0.6}",
            'mine.yaml: decision.prob_mni: is no setting (got 0.6). Did you mean "prob_min"?',
        ),
        (
            "decison: {prob_min: 0.6}",
            "mine.yaml: decison: is no group of settings (got {'prob_min': 0.6}). "
            'Did you mean "decision"?',
        ),
        (
            "PROB_MIN: 0.6",
            "mine.yaml: PROB_MIN: is no group of settings (got 0.6). "
            'Did you mean "prob_min" under "decision:"?',
        ),
        (
            "risk: {prob_min: 0.6}",
            "mine.yaml: risk.prob_min: is no setting (got 0.6). "
            'Did you mean "prob_min" under "decision:"?',
        ),
        ("decision: 7", "mine.yaml: decision: must hold settings (got 7)"),
        ("- a\n- b", "mine.yaml: must hold groups of settings (got 'list')"),
        ("decision:\n  delta: 0\n  delta: 1",
         'mine.yaml: is no valid YAML: "delta" is there twice, line 3'),
        ("decision: {", "mine.yaml: is no valid YAML: expected the node content, "
         "but found '<stream end>', line 1"),
        ("decision: {prob_min: 0.3}", "PROB_MIN (mine.yaml): must be ≥ 0.5 (got 0.3)"),
    ],
)  # fmt: skip
def test_yaml_when_it_is_wrong_then_file_rule_and_value_are_named(
    text: str, message: str, tmp_path: Path
) -> None:
    assert yaml_refusal(tmp_path, text) == message


def test_yaml_when_the_file_is_missing_then_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        load_settings(env={}, profile=None, config_files=[tmp_path / "none.yaml"])


def test_yaml_when_it_would_build_objects_then_it_is_refused(tmp_path: Path) -> None:
    assert "no valid YAML" in yaml_refusal(tmp_path, "data: !!python/object/apply:os.getcwd []")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("PROB_MNI=0.6\n", "PROB_MNI (.env): is no setting (got '0.6'). Did you mean \"PROB_MIN\""),
        ("HOME=/x\n", "HOME (.env): is no setting"),
        ("PROB_MIN\n", ".env, line 1: must be NAME=value"),
        ("SYMBOLS='BTC\n", ".env, line 1: must be NAME=value"),
        ("PROB_MIN=0.6\nPROB_MIN=0.7\n", "contradicts another name of PROB_MIN"),
    ],
)
def test_dotenv_when_a_line_is_wrong_then_it_is_refused(
    text: str, part: str, tmp_path: Path
) -> None:
    path = tmp_path / ".env"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(SettingError) as caught:
        load_settings(env={}, profile=None, dotenv=path)

    assert part in str(caught.value)


def test_flag_when_it_is_unknown_then_the_right_one_is_suggested() -> None:
    with pytest.raises(SettingError) as caught:
        load_settings(env={}, profile=None, overrides={"prob-mni": "0.6"})

    assert str(caught.value) == (
        "prob-mni (flag): is no setting (got '0.6'). Did you mean \"prob_min\"?"
    )


def test_profile_when_it_does_not_exist_then_the_right_one_is_suggested() -> None:
    assert refusal("blanced").hint == 'Did you mean "balanced"?'
    assert "chronos-only" in refusal("qqqq").hint


@pytest.mark.parametrize("name", ["../strict", "/etc/passwd", "default", ""])
def test_profile_when_it_is_no_name_of_a_profile_then_it_is_refused(name: str) -> None:
    assert "must be one that exists" in refusal(name).rule


def test_source_of_when_the_name_is_unknown_then_the_right_one_is_suggested() -> None:
    with pytest.raises(SettingError, match=r'Did you mean "decision\.prob_min"'):
        load_settings(env={}, profile=None).source_of("decision.prob_mni")


@pytest.mark.parametrize(
    ("env", "what", "rule"),
    [
        ({"TIMEFRAME": "7m"}, "TIMEFRAME (environment)", "must be one of 1m, 3m, 5m"),
        ({"CONCLAVE_CONSENSUS__SOLE": "x"}, "consensus.sole", "must be one of models.agents"),
        ({"PRED_HORIZON_STEPS": "0"}, "PRED_HORIZON_STEPS (environment)", "must be ≥ 1"),
        ({"PRED_HORIZON_STEPS": "2.5"}, "PRED_HORIZON_STEPS (environment)", "integer"),
        ({"ENCODER_LENGTH": "0"}, "ENCODER_LENGTH (environment)", "must be ≥ 1"),
        ({"PROB_MIN": "0.49"}, "PROB_MIN (environment)", "must be ≥ 0.5"),
        ({"PROB_MIN": "1.01"}, "PROB_MIN (environment)", "must be ≤ 1"),
        ({"PROB_MIN": "nan"}, "PROB_MIN (environment)", "finite"),
        ({"PROB_MIN": "high"}, "PROB_MIN (environment)", "must be a valid number"),
        ({"RISK_MAX": "-0.1"}, "RISK_MAX (environment)", "must be ≥ 0"),
        ({"MIN_EXPECTED_RETURN": "-1"}, "MIN_EXPECTED_RETURN (environment)", "must be ≥ 0"),
        ({"FEES_BPS": "-1"}, "FEES_BPS (environment)", "must be ≥ 0"),
        ({"FEES_BPS": "inf"}, "FEES_BPS (environment)", "finite"),
        ({"MIN_FORECASTERS": "0"}, "MIN_FORECASTERS (environment)", "must be ≥ 1"),
        ({"PAPER_MODE": "maybe"}, "PAPER_MODE (environment)", "must be a valid boolean"),
        ({"API_PORT": "65536"}, "API_PORT (environment)", "must be ≤ 65535"),
        ({"SYMBOLS": ","}, "SYMBOLS (environment)", "must name at least one"),
        ({"SYMBOLS": "BTC"}, "SYMBOLS (environment)", "must name base and quote"),
        ({"SYMBOLS": "BTC/USDT,BTCUSDT"}, "SYMBOLS (environment)", "must name each symbol once"),
        ({"EXCHANGE": "Binance!"}, "EXCHANGE (environment)", "match pattern"),
        ({"DATABASE_URL": "mysql://x/y"}, "DATABASE_URL (environment)", "must start with sqlite"),
        ({"TELEGRAM_CHAT_ID": "me"}, "TELEGRAM_CHAT_ID (environment)", "must be a number or"),
        ({"CONCLAVE_TELEGRAM_CHATS": "42"}, "notify.telegram_chats (environment)", "ID:operator"),
        (
            {"CONCLAVE_TELEGRAM_CHATS": "42:boss"},
            "notify.telegram_chats (environment)",
            "'42:boss'",
        ),
        (
            {"CONCLAVE_TELEGRAM_CHATS": "7:viewer,7:operator"},
            "notify.telegram_chats (environment)",
            "each chat once",
        ),
        (
            {"CONCLAVE_TELEGRAM_API": "http://example.org"},
            "notify.telegram_api (environment)",
            "must be https",
        ),
        (
            {"CONCLAVE_TELL_FILL": "loud"},
            "notify.tell_fill (environment)",
            "'on', 'silent' or 'off'",
        ),
        ({"CONCLAVE_DAILY_HOUR": "24"}, "notify.daily_hour (environment)", "must be ≤ 23"),
        ({"CONCLAVE_AGENTS": "kronos"}, "models.agents (environment)", "'kronos' is no agent"),
        ({"CONCLAVE_AGENTS": "risk,risk"}, "models.agents (environment)", "each agent once"),
        ({"CONCLAVE_INTERVAL_RULE": ".7"}, "decision.interval_rule (environment)", "must be one"),
        ({"CONCLAVE_MAX_SPREAD_BPS": "0"}, "risk.max_spread_bps (environment)", "must be > 0"),
        ({"CONCLAVE_RISK_PER_TRADE": "0.02"}, "risk.risk_per_trade (environment)", "≤ 0.015"),
        ({"CONCLAVE_DRAWDOWN_START": "0"}, "risk.drawdown_start (environment)", "must be > 0"),
    ],
)
def test_value_when_it_is_out_of_range_then_it_is_refused(
    env: dict[str, str], what: str, rule: str
) -> None:
    error = refusal(**env)

    assert error.what == what
    assert rule in error.rule


def test_value_when_a_word_is_mistyped_then_the_right_one_is_suggested() -> None:
    assert refusal(EXECUTION_MARKET="prep").hint == 'Did you mean "perp"?'


@pytest.mark.parametrize(
    ("env", "what", "rule"),
    [
        ({"LIVE_MODE": "true"}, "LIVE_MODE", "cannot be on together with PAPER_MODE"),
        ({"PAPER_MODE": "false"}, "PAPER_MODE", "must be true unless LIVE_MODE is"),
        ({"EXCHANGE_API_KEY": "k"}, "EXCHANGE_API_KEY", "together with EXCHANGE_API_SECRET"),
        ({"API_HOST": "0.0.0.0"}, "API_HOST", "may leave loopback only with an API_TOKEN"),
        ({"API_PORT": "8265"}, "API_PORT", "must differ from RAY_DASHBOARD_PORT"),
        ({"SYMBOLS": "BTC/USDT,BTC/USDT:USDT"}, "SYMBOLS", "must not meet in one market on perp"),
        (
            {"CONCLAVE_FIXED_NOTIONAL": "1", "CONCLAVE_FIXED_QUANTITY": "1"},
            "execution.fixed_notional", "cannot be set together",
        ),
        ({"CONCLAVE_MIN_ORDER_NOTIONAL": "2000"}, "risk.min_order_notional", "must not exceed"),
        ({"CONCLAVE_DRAWDOWN_START": "0.2"}, "risk.drawdown_start", "must not exceed"),
        ({"CONCLAVE_CORRELATION_LEAST": "500"}, "risk.correlation_least", "must not exceed"),
    ],
)  # fmt: skip
def test_settings_when_they_contradict_each_other_then_they_are_refused(
    env: dict[str, str], what: str, rule: str
) -> None:
    error = refusal(**env)

    assert error.what == what
    assert rule in error.rule
    assert error.hint


@pytest.mark.parametrize(
    "name",
    [
        "CONCLAVE_HEDGE_MODE", "CONCLAVE_MAX_CLIENTS", "CONCLAVE_STRICT_JOURNAL",
        "CONCLAVE_RATE_LIMIT_PER_MINUTE", "CONCLAVE_BOOK_DEPTH",
    ],
)  # fmt: skip
def test_environment_when_nothing_would_honour_a_name_then_it_is_no_setting(name: str) -> None:
    assert refusal(**{name: "1"}).rule == "is no setting"


def test_settings_when_the_api_leaves_loopback_with_a_token_then_they_are_accepted() -> None:
    load_settings(env={"API_HOST": "0.0.0.0", "API_TOKEN": "correct-horse"}, profile=None)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("[::1]", True),
        ("localhost", True), ("0.0.0.0", False), ("::", False), ("192.168.1.5", False),
        ("localhost.example.org", False),
    ],
)  # fmt: skip
def test_is_loopback_when_given_an_address_then_only_this_machine_counts(
    host: str, loopback: bool
) -> None:
    assert is_loopback(host) is loopback


def test_settings_when_several_things_are_wrong_then_all_are_listed_one_a_line() -> None:
    error = refusal("strct", CONCLAVE_PROB_MNI="1", TIMEFRAME="7m", FEES_BPS="-1")

    assert isinstance(error, SettingErrors)
    assert [problem.what for problem in error.problems] == [
        "profile", "CONCLAVE_PROB_MNI (environment)", "TIMEFRAME (environment)",
        "FEES_BPS (environment)",
    ]  # fmt: skip
    assert len(str(error).splitlines()) == 5


def test_settings_when_one_contradiction_comes_with_a_typo_then_both_are_listed() -> None:
    error = refusal(LIVE_MODE="true", CONCLAVE_PROB_MNI="1")

    assert isinstance(error, SettingErrors)
    assert {problem.what.split()[0] for problem in error.problems} == {
        "LIVE_MODE", "CONCLAVE_PROB_MNI",
    }  # fmt: skip
