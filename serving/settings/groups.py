"""Every setting with its unit, default and rule, by group."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
)

from agents.chronos_models import require_known
from agents.chronos_views import TIMEFRAMES as CHRONOS_TIMEFRAMES
from domain.errors import UsageError
from domain.market import parse_symbol
from execution.journal import tags_of

AGENTS = ("climatology", "technical", "baseline", "chronos", "tft", "microstructure", "risk")
DEBATERS = ("grok", "claude", "stub")
LIGHT_AGENTS = ("climatology", "technical")  # always in process; the rest may be deployments
TIMEFRAMES = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
INTERVALS = (0.8, 0.9, 0.95)
T = TypeVar("T")


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _path(value: Path) -> Path:
    if value == Path():
        raise ValueError("must name a folder")
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError("must not start with ~ and a user that does not exist") from None


def _agents(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in AGENTS:
            close = difflib.get_close_matches(name, AGENTS, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"known are {', '.join(AGENTS)}"
            raise ValueError(f"{name!r} is no agent; {hint}")
    if len(set(names)) != len(names):
        raise ValueError("must name each agent once")
    return names


def _not_empty(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("must name at least one")
    return names


def _tags(names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tags_of(names)
    except UsageError as error:
        raise ValueError(f"{error.value!r} {error.rule}") from None


def _off(value: Any) -> Any:
    return "off" if value is False else value  # what YAML makes of a bare off


Folder = Annotated[Path, AfterValidator(_path)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
AgentNames = Annotated[Names, AfterValidator(_agents)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Group(BaseModel):
    """What all groups share: frozen, closed, finite numbers only."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


class DataSettings(Group):
    """What is forecast, from where, and where files lie."""

    symbols: Annotated[Names, AfterValidator(_not_empty)] = Field(
        ("BTC/USDT",), description="symbols to forecast, ccxt-unified (BTCUSDT is accepted)"
    )
    timeframe: str = Field("5m", description="length of a bar: " + " ".join(TIMEFRAMES))
    pred_horizon_steps: int = Field(5, ge=1, le=288, description="forecast horizon, bars")
    exchange: str = Field(
        "binance",
        pattern=r"^[a-z0-9]+$",
        description="exchange the stored bars are from, its ccxt id",
    )
    exchange_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+$",
        description="another server of the exchange's protocol, e.g. http://127.0.0.1:8089 of "
        "conclave venue",
    )
    source: Literal["auto", "live", "replay", "demo"] = Field(
        "auto", description="which market, where no flag says so: auto live replay demo"
    )
    var_dir: Folder = Field(Path("var"), description="folder of everything the system writes")
    raw_dir: Folder = Field(
        default_factory=lambda got: _under(got, "data/01_raw"),
        description="folder of bars as fetched; default VAR_DIR/data/01_raw",
    )
    processed_dir: Folder = Field(
        default_factory=lambda got: _under(got, "data/04_processed"),
        description="folder of training sets; default VAR_DIR/data/04_processed",
    )
    models_dir: Folder = Field(
        default_factory=lambda got: _under(got, "models"),
        description="folder of trained models; default VAR_DIR/models",
    )
    models_url: str | None = Field(
        None,
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[0-9A-Za-z._-]+)*/?$",
        description="object store that machines share models through, s3://BUCKET/PATH; "
        "MODELS_DIR is then this machine's copy of it",
    )
    models_endpoint: str | None = Field(
        None, pattern=r"^https?://[^\s@?#/]+/?$",
        description="address of an S3-compatible server, http(s)://HOST:PORT; unset: AWS",
    )  # fmt: skip
    models_region: str = Field(
        "us-east-1", pattern=r"^[a-z0-9-]+$", description="region of the bucket"
    )
    logs_dir: Folder = Field(
        default_factory=lambda got: _under(got, "logs"),
        description="folder of log files; default VAR_DIR/logs",
    )
    warm_up_days: int = Field(
        30, ge=1, le=365, description="history scored before the first live bar, days"
    )
    samples: Folder | None = Field(None, description="folder of sample bars for tests")
    backup_minutes: int = Field(
        60, ge=0, description="wall time between two backups of the database, minutes; 0 = none"
    )
    backup_hourly: int = Field(24, ge=1, description="newest backups that are kept")
    backup_daily: int = Field(7, ge=0, description="days whose last backup is kept as well")
    recover: bool = Field(
        True,
        description="whether a damaged ledger is replaced at start by the last state that verifies",
    )

    @field_validator("symbols")
    @classmethod
    def _unified(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            unified = tuple(parse_symbol(name) for name in names)
        except UsageError as error:
            raise ValueError(f"{error.value!r} {error.rule}. {error.hint}") from None
        if len(set(unified)) != len(unified):
            raise ValueError("must name each symbol once")
        return unified

    @field_validator("timeframe")
    @classmethod
    def _known_timeframe(cls, value: str) -> str:
        return _one_of(value, TIMEFRAMES)


class FeatureSettings(Group):
    """What the agents see of the past."""

    encoder_length: int = Field(
        60, ge=1, le=4096, description="past bars in a training window of a sequence model"
    )


class ModelSettings(Group):
    """Which agents sit in the council and where they run."""

    agents: Annotated[AgentNames, AfterValidator(_not_empty)] = Field(
        AGENTS, description="agents of the council"
    )
    in_process: AgentNames = Field(
        LIGHT_AGENTS,
        description="agents that think inside the council's process; "
        "the others are Ray Serve deployments",
    )
    chronos_model: str = Field(
        "shipped",
        description="Chronos model: shipped (what was promoted here, else what ships), a folder, "
        "or a hub id such as amazon/chronos-bolt-tiny",
    )
    chronos_timeframes: Annotated[Names, AfterValidator(_not_empty)] = Field(
        CHRONOS_TIMEFRAMES,
        description="timeframes Chronos is asked about, as far as the bars can be joined to them",
    )
    chronos_fusion: Literal["learned", "fixed"] = Field(
        "learned", description="how they go together; learned needs the model it was learned for"
    )
    chronos_min_confidence: Fraction = Field(
        0.0,
        description="|2p − 1| below which a timeframe has no say in the direction; fixed fusion",
    )
    chronos_int8: bool = Field(False, description="whether Chronos is quantised to int8")
    auto_promote: bool = Field(
        False, description="whether training promotes a better model by itself"
    )
    trials_log: Folder | None = Field(
        None, description="file to which every look at the test year is added; none = not logged"
    )

    @field_validator("chronos_model")
    @classmethod
    def _known_chronos(cls, value: str) -> str:
        try:
            return require_known(value)
        except UsageError as error:
            raise ValueError(f"{error.rule}. {error.hint}") from None

    @field_validator("chronos_timeframes")
    @classmethod
    def _known_timeframes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_one_of(name, CHRONOS_TIMEFRAMES) for name in names)

    @property
    def remote(self) -> tuple[str, ...]:
        """The agents with a deployment of their own, in the council's order."""
        return tuple(name for name in self.agents if name not in self.in_process)


class ConsensusSettings(Group):
    """How the council learns whom to believe."""

    sole: str | None = Field(
        None, description="the one agent whose forecast is published as it is; none = the council's"
    )
    min_forecasters: int = Field(2, ge=1, description="least awake agents with a direction")
    half_life: float = Field(10_000.0, gt=0, description="memory of the scores, outcomes")
    eta: NotNegative = Field(1.0, description="learning rate on the decayed Brier loss")
    floor: Fraction = Field(1e-3, description="share of the prior in the weights, fraction")
    grace: int = Field(50, ge=0, description="outcomes during which a member cannot lose weight")


class DebateSettings(Group):
    """Language models that may answer the council; each is in probation until it earned a seat."""

    providers: Names = Field(
        (),
        description="language models that are asked at every bar: grok, claude, stub; none = off",
    )
    step: float = Field(0.05, gt=0, le=1, description="furthest one moves from the pool, logits")
    timeout_s: Positive = Field(1.5, description="patience with them after the agents, seconds")
    budget_tokens: int = Field(
        2_000, ge=500, description="tokens of one decision and model, question and answer"
    )
    answer_tokens: int = Field(150, ge=50, description="of these, the most it may answer with")
    grok_url: str | None = Field(None, description="another address that speaks as OpenAI's does")
    grok_model: str | None = Field(None, description="another model there")
    claude_url: str | None = Field(None, description="another address that speaks as Anthropic's")
    claude_model: str | None = Field(None, description="another model there")
    xai_api_key: SecretStr | None = Field(None, description="key of grok; secret")
    anthropic_api_key: SecretStr | None = Field(None, description="key of claude; secret")

    @field_validator("providers")
    @classmethod
    def _known_providers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            _one_of(name, DEBATERS)
        if len(set(value)) != len(value):
            raise ValueError("must name each once")
        return value


class DecisionSettings(Group):
    """When a side is taken."""

    prob_min: float = Field(0.60, ge=0.5, le=1, description="least probability of the side taken")
    min_expected_return: float = Field(
        0.002, ge=0, lt=1, description="least expected log return of the side taken, fraction"
    )
    risk_max: Fraction = Field(0.30, description="largest probability of the adverse move")
    delta: float = Field(
        0.0, ge=0, le=0.5, description="margin on the break-even probability, fraction"
    )
    interval_rule: float | None = Field(
        None, description="0.8, 0.9 or 0.95: that interval must lie beyond the cost; none = off"
    )
    gate: Annotated[Literal["off", "earned", "always"], BeforeValidator(_off)] = Field(
        "off",
        description="earned: a trained gate judges every side, and is applied while it has proved "
        "to gain; always: applied from the start; off: none",
    )
    gate_override_above: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="confidence above which the gate may turn a side; none = never",
    )

    @field_validator("interval_rule")
    @classmethod
    def _known_interval(cls, value: float | None) -> float | None:
        return value if value is None else _one_of(value, INTERVALS)


class ExecutionSettings(Group):
    """How decisions become trades, and what they cost."""

    paper_mode: bool = Field(
        True, description="whether orders are simulated; false only where LIVE_MODE is true"
    )
    live_mode: bool = Field(
        False,
        description="whether orders may go to the exchange, once live trading is enabled as well: "
        "conclave live",
    )
    market: Literal["perp", "spot"] = Field("perp", description="where orders go: perp or spot")
    strategy: Literal["council", "ema_cross", "mean_reversion"] = Field(
        "council", description="who decides: council, ema_cross or mean_reversion"
    )
    fees_bps: NotNegative | None = Field(
        None, le=1000, description="taker fee a side, basis points; none = the market's own"
    )
    liquidation_bps: NotNegative | None = Field(
        None, le=10_000,
        description="fee of a liquidation, basis points of its notional, at most what is left of "
        "the margin; none = the market's own, 120",
    )  # fmt: skip
    spread_bps: float = Field(1.0, ge=0, le=1000, description="modelled full spread, basis points")
    slippage_bps: float = Field(1.0, ge=0, le=1000, description="slippage a side, basis points")
    impact: float = Field(
        0.5, ge=0, le=10,
        description="how far an order moves the price: times the bar's range and the root of its "
        "share of the volume; 0 = not at all",
    )  # fmt: skip
    participation: Positive | None = Field(
        0.1, le=1, description="largest share of a bar's volume that an order may take; none = any"
    )
    queue_share: float = Field(
        0.25, ge=0, le=1, description="chance that a limit is filled which the market only touches"
    )
    latency: Literal["lognormal", "uniform", "none"] = Field(
        "lognormal", description="how long orders are on their way: lognormal, uniform (50-200 ms) "
        "or none",
    )  # fmt: skip
    latency_median_ms: Positive = Field(120.0, description="median of the lognormal, ms")
    latency_p99_ms: Positive = Field(800.0, description="its 99 % quantile, ms")
    latency_busy: float = Field(3.0, ge=1, description="longer by this in the busiest 5 % of bars")
    leverage: float = Field(1.0, ge=1, le=150, description="leverage of isolated positions")
    fill_seed: int = Field(0, ge=0, description="seed of all that the fill engine draws")
    initial_cash: Positive = Field(10_000.0, description="paper account at its start, USDT")
    on_shutdown: Literal["keep", "flatten"] = Field(
        "keep", description="what happens to positions when the system stops: keep or flatten"
    )
    fixed_notional: Positive | None = Field(
        None, description="size of every order, USDT; none = sized by risk"
    )
    fixed_quantity: Positive | None = Field(
        None, description="size of every order, base units; none = sized by risk"
    )
    stop_atr: Positive | None = Field(
        2.0, description="distance of the stop where the strategy has none, ATRs; none = off"
    )
    target_atr: Positive | None = Field(
        3.0, description="distance of the target where the strategy has none, ATRs; none = off"
    )
    levels_calm: Positive = Field(
        1.1, le=10, description="both distances are times this in the week's calmest third"
    )
    levels_wild: Positive = Field(0.9, le=10, description="and times this in its wildest third")
    funding: bool = Field(True, description="whether perpetual positions pay funding")


class JournalSettings(Group):
    """What is written about trades."""

    reflections: Annotated[Literal["strict", "draft", "off"], BeforeValidator(_off)] = Field(
        "strict",
        description="strict: after an automatic close the next entry of that symbol and side waits "
        "for a reflection; draft: nothing waits; off: no drafts either",
    )
    min_characters: int = Field(20, ge=1, le=1000, description="least length of a reflection")
    tags: Annotated[Names, AfterValidator(_tags)] = Field(
        (), description="tags that may be used; none = any"
    )


class AssertionSettings(Group):
    """What must hold of the ledger, looked at once a day of market time."""

    sharpe_gap_max: Positive = Field(
        0.5, description="largest difference of the Sharpe ratios of paper and backtest, 30 days"
    )
    slippage_gap_max_bps: Positive = Field(
        2.0, description="largest excess of spread and slippage over the model, basis points a side"
    )
    win_rate_error: float = Field(
        0.01, gt=0, lt=0.5,
        description="chance of a false alarm about the win rate of the last 50 trades, fraction",
    )  # fmt: skip
    drawdown_max: float = Field(
        0.08, gt=0, le=1, description="deepest fall from the high-water mark, fraction"
    )
    data_age_max_bars: int = Field(3, ge=1, description="oldest that the newest bar may be, bars")
    adherence_min: Fraction = Field(
        0.9, description="least share of the week's trades with a person's reflection"
    )
    adherence_grace_hours: NotNegative = Field(
        24.0, description="how long a reflection may take before it counts as missing, hours"
    )


class ServingSettings(Group):
    """Processes, ports and limits."""

    api_host: str = Field("127.0.0.1", min_length=1, description="address the API listens on")
    api_port: Port = Field(8000, description="port of API and dashboard; 0 = any free one")
    ray_dashboard_port: Port = Field(8265, description="port of Ray's dashboard; 0 = any free one")
    api_token: SecretStr | None = Field(
        None, description="bearer token; secret; on loopback one is made in VAR_DIR if unset"
    )
    tokens_file: Folder | None = Field(
        None,
        description="file of named tokens (conclave token create); default VAR_DIR/tokens.json",
    )
    rate_reads: NotNegative = Field(200.0, description="reads a second for one caller; 0 = any")
    rate_signals: NotNegative = Field(
        20.0, description="asks for a signal a second for one caller; 0 = any"
    )
    rate_writes: NotNegative = Field(20.0, description="changes a second for one caller; 0 = any")
    allowed_hosts: Names = Field(
        (), description="names beside localhost that a loopback API answers to: a proxy's"
    )
    patience_s: float = Field(
        10.0, gt=0, le=300, description="patience with a request's head, and with its body, seconds"
    )
    max_streams: int = Field(100, ge=0, le=100, description="readers of the event stream at a time")
    heartbeat_s: float = Field(
        15.0, gt=0, le=300, description="seconds between signs of life on a quiet event stream"
    )
    job_worker: bool = Field(
        False, description="whether `up` also works on jobs; else `conclave jobs run` does"
    )
    database_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL; secret; default SQLite in VAR_DIR/ledger.db"
    )
    ray: bool = Field(True, description="whether agents run on Ray Serve")
    serve_url: str | None = Field(
        None,
        pattern=r"^https?://[\w.:\[\]-]+/?$",
        description="where a desk of its own finds API and agents; default API_HOST and API_PORT",
    )
    desk_port: Port | None = Field(
        None, description="port of the desk's own figures and health; none = none"
    )
    agent_deadline_s: float = Field(2.0, gt=0, le=60, description="patience with agents, seconds")
    object_store_mb: int = Field(128, ge=75, description="Ray's object store, MiB")
    max_ongoing_requests: int = Field(256, ge=256, description="requests the API works on at once")
    throughput_optimized: bool = Field(
        False, description="whether Ray Serve trades isolation for speed (clusters)"
    )
    ha_proxy: bool = Field(
        False,
        description="whether Ray Serve routes by HAProxy (clusters; its statistics answer on "
        "port 8404 of every address)",
    )
    monitor: bool = Field(True, description="whether drift is looked for once a day of market time")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level that is logged"
    )
    log_console: Literal["text", "json"] = Field(
        "text", description="how lines look on the console; json for those who collect them there"
    )
    log_max_mb: Positive = Field(20.0, description="size at which a log file is rotated, MiB")
    log_backups: int = Field(5, ge=1, le=1000, description="rotated log files kept")

    @field_validator("database_url")
    @classmethod
    def _known_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        backend = value.get_secret_value().partition("://")[0].partition("+")[0]
        if backend not in ("sqlite", "postgresql"):
            raise ValueError("must start with sqlite:// or postgresql://")
        return value

    @field_validator("api_token")
    @classmethod
    def _one_word(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().split()) != 1:
            raise ValueError("must be one word without spaces")
        return value


def _under(got: dict[str, Any], folder: str) -> Path:
    # Without a valid VAR_DIR validation fails anyway, and says why.
    return Path(got.get("var_dir", "var")) / folder


def _one_of(value: T, known: tuple[T, ...]) -> T:
    if value not in known:
        raise ValueError(f"must be one of {', '.join(map(str, known))}")
    return value
