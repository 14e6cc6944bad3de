"""The gate in use: what it says, what it is scored by, and that it never stands in the way."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba", reason="needs numba")

from agents.artifacts import SHIPPED, load, promote, rollback, versions
from domain.decision import Action, Decision, GateVerdict
from domain.errors import ModelError
from domain.market import Bar
from execution.limits import EXERCISE
from execution.sizing import SizingSettings
from execution.strategies import EmaCross
from rl.actions import CHOICES
from rl.course import course_of
from rl.duel import LEAST, Duel
from rl.following import FollowingGate
from rl.gate import NoUsableGate, PolicyGate, Powers, Trained, trained
from rl.observation import market_row
from rl.policy import WEIGHTS, from_bytes
from serving.gate_models import GateFollower
from serving.rules import market_for
from serving.settings import load_settings
from sim.backtest import BacktestRules, run_backtest, trading_loop, unasked_states
from storage.memory import MemoryLedger
from tests.gate_scenes import COLUMNS, SCHEMA, course, decided, frame_of, kept, policy, terms_of

RULES = BacktestRules("exercise", EXERCISE, SizingSettings(mode="fixed", fixed_notional=500.0))
COST = terms_of().round_trip
PORTFOLIO = None  # it looks at what it would hold itself


def gate(made=None, powers=None, schema=SCHEMA):
    return PolicyGate(
        Trained(made or policy("skip"), schema, "ema_cross", "v1"), "5m", COST, powers
    )


def judged(what, at=320, frame=None):
    state, decision = list(decided(frame or frame_of("walk", at + 1)))[at]
    return what.judge(decision, state, PORTFOLIO), decision


# What it says


@pytest.mark.parametrize(
    ("likes", "size", "powers", "said", "part"),
    [
        ("skip", 3, None, "veto", 0.0),
        ("same", 3, None, "allow", 1.0),
        ("same", 1, None, "shrink", 0.5),
        ("other", 3, None, "allow", 1.0),  # forbidden: the next likeliest, which is skip or same
        ("other", 2, Powers(override_above=0.5), "override", 0.75),
        ("other", 3, Powers(override_above=0.999), "allow", 1.0),
    ],
)
def test_gate_when_its_policy_likes_something_then_that_is_what_it_says(
    likes, size, powers, said, part
):
    _, decision = judged(gate())
    same, other = ("buy", "sell") if decision.intent is Action.LONG else ("sell", "buy")
    made = policy({"same": same, "other": other}.get(likes, likes), size)
    if likes == "other" and powers is None:
        made.biases[-1][0] = -9.0  # nor does it like to skip
    verdict, _ = judged(gate(made, powers))
    assert (verdict.would, verdict.size_factor) == (said, part)
    assert verdict.action == ("allow" if said == "allow" and "sure" in verdict.reason else "shadow")
    assert verdict.input_decision is decision.intent
    assert 0.0 <= verdict.confidence <= 1.0


def test_gate_when_it_is_always_applied_then_the_verdict_is_what_it_says():
    verdict, _ = judged(gate(policy("skip"), Powers(always=True)))
    assert (verdict.action, verdict.would) == ("veto", "veto")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"strategy": "council"}, "trained for ema_cross"),
        ({"horizon_bars": 6}, "trained for 5 bars"),
        ({"inputs": {"dispersion": float("nan")}, "prob_up": 0.5}, "observation is missing"),
        ({"prob_up": float("nan")}, ""),
        ({"prob_up": 0.6, "expected_return": float("inf")}, ""),
    ],
)
def test_gate_when_a_decision_is_not_as_in_training_then_it_lets_it_pass(change, why):
    state, decision = list(decided(frame_of("walk", 321)))[320]
    verdict = gate(powers=Powers(always=True)).judge(replace(decision, **change), state, PORTFOLIO)
    if why:
        assert (verdict.action, verdict.size_factor) == ("allow", 1.0)
        assert why in verdict.reason
    else:
        assert verdict.action in ("allow", "veto")
        assert np.isfinite(verdict.confidence)


def test_gate_when_the_past_is_too_short_then_it_lets_pass_with_the_reason():
    verdict, _ = judged(gate(powers=Powers(always=True)), at=100)
    assert verdict.action == "allow"
    assert "unknown territory" in verdict.reason


def test_gate_when_it_never_saw_the_like_then_it_lets_pass_with_the_reason():
    made = policy("skip", strange=3)
    narrow = replace(made, low=made.low * 0.0 - 1e-6, high=made.high * 0.0 + 1e-6)
    verdict, _ = judged(gate(narrow, Powers(always=True)))
    assert verdict.action == "allow"
    assert "columns beyond training" in verdict.reason


def test_gate_when_features_are_missing_then_it_lets_pass_and_the_decision_stands():
    from sim.backtest import plain_states

    state = list(plain_states(frame_of("walk", 321)))[320]
    _, decision = judged(gate())
    verdict = gate(powers=Powers(always=True)).judge(decision, state, PORTFOLIO)
    assert verdict.action == "allow"
    assert "failed" in verdict.reason


# Its artifact


def test_artifact_when_it_is_read_back_then_it_decides_the_same(tmp_path):
    made = policy(seed=5)
    back = trained(load(kept(tmp_path, made)))
    seen = np.random.default_rng(1).normal(size=(64, COLUMNS)).astype(np.float32)
    masks = np.ones((64, CHOICES), dtype=bool)
    for one, other in zip(made.choose(seen, masks), back.policy.choose(seen, masks), strict=True):
        assert np.array_equal(one, other)


def test_desk_when_a_gate_is_promoted_or_taken_back_then_it_follows(tmp_path):
    settings = load_settings(
        env={"VAR_DIR": str(tmp_path), "CONCLAVE_DECISION__GATE": "earned"}, profile="exercise"
    )
    market = market_for(settings, ["BTC/USDT"], {"BTC/USDT": 95_000.0}, keep_market=False)
    follower, root = GateFollower(settings, market, "BTC/USDT"), settings.data.models_dir
    assert [follower.gate.view()["version"]] == versions(SHIPPED, "gate/ema_cross")
    for at in (1, 2):
        version = kept(root, policy(seed=at), at=at).name
        follower.refresh()
        assert judged(follower.gate)[0].version != version  # it lies there, and nobody promoted it
        promote(root, "gate/ema_cross", version)
        follower.refresh()
        assert judged(follower.gate)[0].version == version
        assert follower.gate.view()["version"] == version
    rollback(root, "gate/ema_cross")
    follower.refresh()
    assert judged(follower.gate)[0].version not in ("", version)


def test_artifact_when_a_byte_is_changed_then_it_is_refused(tmp_path):
    folder = kept(tmp_path)
    path = folder / WEIGHTS
    body = bytearray(path.read_bytes())
    body[-3] ^= 1
    path.write_bytes(body)
    with pytest.raises(ModelError, match="sha256"):
        load(folder)


def test_artifact_when_it_is_of_other_observations_then_it_is_refused(tmp_path):
    told = {**SCHEMA.as_dict(), "hash": "another"}
    with pytest.raises(ModelError, match="observation schema"):
        trained(load(kept(tmp_path, schema=told)))


@pytest.mark.parametrize(
    "harm",
    ["not a file", "wrong shape", "not finite", "no arrays"],
)
def test_weights_when_they_cannot_be_then_they_are_refused(harm):
    made = policy(seed=5)
    if harm == "wrong shape":
        made = replace(made, mean=np.zeros(3))
    if harm == "not finite":
        made.weights[0][0, 0] = np.nan
    body = b"no safetensors" if harm == "not a file" else made.to_bytes()
    if harm == "no arrays":
        from safetensors.numpy import save as packed

        body = packed({"mean": np.zeros(2)})
    with pytest.raises(ModelError, match=WEIGHTS):
        from_bytes(body, SCHEMA)


# Seen live as in training


@pytest.mark.long
def test_observation_when_the_loop_decides_then_it_is_the_one_that_was_trained_on():
    frame, on = frame_of("walk", 800), course(bars=800)
    seen = {}

    class Watching(PolicyGate):
        def _judged(self, decision, state):
            own = self._own(state)
            seen[state.as_of] = (own, market_row(SCHEMA, decision, state, COST))
            return super()._judged(decision, state)

    watching = Watching(Trained(policy(seed=11), SCHEMA, "ema_cross", "v1"), "5m", COST,
                        Powers(always=True))  # fmt: skip
    run_backtest(
        frame, EmaCross(), terms_of().instrument, rules=RULES, gate=watching,
        states=unasked_states(frame, RULES, features=True),
    )  # fmt: skip
    rows = {int(t) + 300_000: i for i, t in enumerate(on.bars.open_ms)}
    judged_rows = [(at, row) for at, row in seen.items() if np.isfinite(row[1]).all()]
    assert len(judged_rows) > 400
    for at, (_, market) in judged_rows:
        assert np.array_equal(market, on.market[rows[at]])

    # and its account's columns are those of an environment that does the same
    from rl.batch import BatchedTradingEnv
    from rl.env import Style

    first, last = on.runs[0].tolist()
    env = BatchedTradingEnv(on, 1, Style(), 0, np.array([first]), np.array([last - 1]))
    row, made = env.reset(), policy(seed=11)
    apart = []
    for t in range(first, last - 1):
        own = seen[int(on.bars.open_ms[t]) + 300_000][0]
        apart.append(np.abs(np.array(own) - row[0, :4]))
        row, *_ = env.step(made.choose(row, env.action_masks())[0])
    apart = np.array(apart)[20:]  # the loop held something before
    assert (apart[:, [0, 3]] < 1e-6).mean() > 0.99  # side and horizon
    assert apart[:, 1].max() < 0.2  # size: whole lots there, of which the stake buys five
    assert np.median(apart[:, 2]) < 0.1  # profit in sigma: fills pay spread and slippage there


# Its score


def duel_of(edge, n=4_000, seed=0, would="veto", noise=1e-3):
    """Decisions of a side at every bar, which then earns ``edge`` on average."""
    rng = np.random.default_rng(seed)
    duel, price, applied = Duel(5 * 300_000, 0.0), 100.0, []
    for t in range(n):
        side = 1 if t % 20 < 10 else -1
        judged = GateVerdict("shadow", 0.0 if would == "veto" else 1.0, 0.9, "", None, would)
        action = Action.LONG if side > 0 else Action.SHORT
        duel.decided(decision_at((t + 1) * 300_000, action, judged))
        after = price * float(np.exp(rng.normal(edge * side, noise)))
        duel.closed(Bar("X", "5m", (t + 1) * 300_000, price, max(price, after), min(price, after),
                        after, 1.0))  # fmt: skip
        price = after
        applied.append(duel.applied)
    return duel, applied


def decision_at(as_of, action, verdict):
    return Decision(
        "X", "5m", as_of, as_of, 5, "ema_cross", action, action, (), "", None, None, None, None,
        None, None, None, None, None, gate=verdict,
    )  # fmt: skip


def test_duel_when_the_gate_keeps_out_of_losses_then_it_is_applied_once_that_is_proved():
    duel, applied = duel_of(-3e-4)
    first = applied.index(True)
    assert first >= LEAST
    assert duel.applied
    told = duel.as_dict()
    assert told["lower_bps"] > 0.0
    assert told["gate_log_return"] == pytest.approx(0.0, abs=1e-3)
    assert told["no_gate_log_return"] < -0.5


def test_duel_when_the_gate_keeps_out_of_gains_then_it_stays_a_shadow():
    duel, applied = duel_of(3e-4)
    assert not any(applied)
    assert duel.as_dict()["upper_bps"] < 0.0


def test_duel_when_the_market_turns_then_the_gate_is_switched_off_again():
    duel, _ = duel_of(-3e-4, 3_000)
    assert duel.applied
    rng, price, at = np.random.default_rng(9), duel._pair("X").close, 3_001
    judged = GateVerdict("veto", 0.0, 0.9, "", None, "veto")
    while duel.applied and at < 12_000:
        duel.decided(decision_at(at * 300_000, Action.LONG, judged))
        after = price * float(np.exp(rng.normal(4e-4, 1e-3)))
        duel.closed(Bar("X", "5m", at * 300_000, price, max(price, after), min(price, after),
                        after, 1.0))  # fmt: skip
        price, at = after, at + 1
    assert not duel.applied
    assert at < 12_000


@pytest.mark.long
def test_duel_when_there_is_nothing_to_gain_then_false_alarms_are_rare():
    ever = [any(duel_of(0.0, 1_500, seed)[1]) for seed in range(40)]
    assert sum(ever) <= 5  # 5 % of 40, and three standard errors


def test_duel_when_the_policy_is_another_then_it_earns_anew():
    duel, _ = duel_of(-3e-4)
    assert duel.applied
    other = Duel(5 * 300_000, 0.0, "v2")
    judged = GateVerdict("veto", 0.0, 0.9, "", None, "veto", "v1")
    for t in range(300):
        other.decided(decision_at(t * 300_000, Action.LONG, judged))
        other.closed(Bar("X", "5m", t * 300_000, 100.0 - t / 10, 101.0, 50.0, 99.9 - t / 10, 1.0))
    assert (other.judged, other.differed, other.bars) == (0, 0, 0)
    assert other.gained == other.would_have != 0.0


@pytest.mark.parametrize(("spot", "part"), [(False, -1.0), (True, 0.0)])
def test_duel_when_the_market_is_spot_then_a_short_side_only_closes(spot, part):
    duel = Duel(5 * 300_000, 0.0, spot=spot)
    for t, action in enumerate((Action.LONG, Action.SHORT, Action.SHORT)):
        duel.decided(decision_at(t * 300_000, action, GateVerdict()))
        duel.closed(Bar("X", "5m", t * 300_000, 100.0, 101.0, 99.0, 100.0, 1.0))
    assert duel.book("X").part == part


def test_gate_when_its_policy_breaks_then_the_decision_passes():
    class Broken:
        strange = 99

        def unknown(self, seen):
            raise TypeError("not today")

    verdict, _ = judged(gate(Broken(), Powers(always=True)))
    assert (verdict.action, verdict.reason) == ("allow", "failed: not today")


def test_duel_when_it_allows_everything_then_there_is_nothing_to_tell_apart():
    duel, applied = duel_of(-3e-4, 600, would="allow")
    assert (duel.judged, duel.differed, duel.bars) == (600, 0, 0)
    assert not any(applied)


def test_gate_when_the_loop_restarts_then_its_score_is_what_it_was():
    frame = frame_of("walk", 900)
    ledger, first = MemoryLedger(), gate(policy("skip"))
    instrument = terms_of().instrument
    routes = {frame.symbol: instrument.symbol}
    loop = trading_loop(
        routes, EmaCross(), {instrument.symbol: instrument}, RULES, ledger, gate=first
    )
    for state in unasked_states(frame, RULES, features=True):
        loop.step(state, [], {}, state.as_of)
    again = gate(policy("skip"))
    trading_loop(
        routes, EmaCross(), {instrument.symbol: instrument}, RULES, ledger, gate=again
    ).resume()
    assert first.view()["judged"] > 500
    assert again.view() == first.view()


def test_gate_when_another_is_promoted_then_it_goes_on_as_a_restarted_desk_would():
    frame, instrument = frame_of("walk", 900), terms_of().instrument
    ledger, routes = MemoryLedger(), {frame.symbol: instrument.symbol}

    def second():
        return PolicyGate(Trained(policy(seed=5), SCHEMA, "ema_cross", "v2"), "5m", COST)

    following = FollowingGate(gate(policy("skip")), "ema_cross", Duel(5 * 300_000, COST))
    loop = trading_loop(
        routes, EmaCross(), {instrument.symbol: instrument}, RULES, ledger, gate=following
    )
    for n, state in enumerate(unasked_states(frame, RULES, features=True)):
        if n == 500:
            assert following.view()["judged"] > 100
            following.offer(second())
        loop.step(state, [], {}, state.as_of)
    assert following.view()["version"] == "v2"
    assert following.view()["differed"] > 10
    again = second()
    trading_loop(
        routes, EmaCross(), {instrument.symbol: instrument}, RULES, ledger, gate=again
    ).resume()
    assert following.view() == again.view()


def test_gate_when_none_can_be_used_then_the_next_that_can_takes_over():
    none = NoUsableGate("ema_cross", "none yet")
    following = FollowingGate(none, "ema_cross", Duel(300_000, 0.0))
    assert "none yet" in judged(following)[0].reason
    following.offer(gate(policy("skip")))
    assert judged(following)[0].would == "veto"
    following.offer(NoUsableGate("ema_cross", "withdrawn"))
    verdict, decision = judged(following)
    assert (verdict.action, verdict.input_decision) == ("allow", decision.intent)
    assert following.view()["problem"] == "withdrawn"


class Shadow(PolicyGate):
    """One that never earns to be applied."""

    _applied = False


@pytest.mark.long
def test_gate_when_it_is_a_shadow_then_the_trades_are_those_without_it():
    frame, instrument = frame_of("walk", 700), terms_of().instrument

    def traded(what):
        return run_backtest(
            frame, EmaCross(), instrument, rules=RULES, gate=what,
            states=unasked_states(frame, RULES, features=True),
        )  # fmt: skip

    shadow = Shadow(Trained(policy("skip"), SCHEMA, "ema_cross", "v1"), "5m", COST)
    assert traded(shadow).trades_sha256 == traded(None).trades_sha256
    assert shadow.view()["differed"] > 300
    vetoing = traded(gate(policy("skip"), Powers(always=True)))
    assert len(vetoing.closed) < 20  # until features are there, and nothing after


def test_course_when_the_bars_are_another_market_s_then_it_is_refused():
    from domain.errors import DataRefused

    late = frame_of("walk", 400).slice(200, 400)
    with pytest.raises(DataRefused, match="about bars of the frame"):
        course_of(late, decided(frame_of("walk", 300)), SCHEMA, terms_of())
