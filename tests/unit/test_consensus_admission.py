import math
from dataclasses import replace

import numpy as np
import pytest
from consensus_cases import MEMBERS, STEP, SYMBOL, T0, TIMEFRAME, H, opinion, quantiles
from hypothesis import given
from hypothesis import strategies as st

from consensus.admission import Admitted, Asleep, admit, examine
from consensus.settings import CouncilSettings
from domain.decision import DEGRADING
from domain.quantiles import CANONICAL_LEVELS, Quantiles, QuantileTable

SETTINGS = CouncilSettings(members=MEMBERS)
NINE = tuple(k / 10 for k in range(1, 10))


def enter(opinions, absent=None):
    return admit(SYMBOL, TIMEFRAME, T0, opinions, absent or {}, SETTINGS)


BAD = {
    "p_is_nan": opinion(p=math.nan),
    "p_is_infinite": opinion(p=math.inf),
    "p_is_above_one": opinion(p=1.2),
    "p_is_negative": opinion(p=-0.1),
    "p_is_text": opinion(p="high"),
    "risk_is_nan": opinion(risk_down=math.nan),
    "risk_is_above_one": opinion(risk_up=7.0),
    "return_is_infinite": opinion(expected_return=-math.inf),
    "horizon_is_wrong": opinion(horizon_bars=H + 1),
    "symbol_is_wrong": opinion(symbol="ETH/USDT"),
    "timeframe_is_wrong": opinion(timeframe="1h"),
    "made_later": opinion(k=1),
    "says_nothing": opinion(p=None, q=None, risk_down=None, risk_up=None),
    "name_is_empty": opinion(agent=""),
    "name_is_reserved": opinion(agent="_fusion"),
    "a_quantile_is_nan": opinion(q=Quantiles(NINE, (math.nan, *[0.0] * 8))),
    "a_quantile_is_infinite": opinion(q=Quantiles(NINE, (*[0.0] * 8, math.inf))),
    "a_quantile_is_beyond_20_percent": opinion(q=quantiles(0.1968)),
    "a_level_is_missing": opinion(q=Quantiles((0.1, 0.4, 0.9), (-1e-3, 0.0, 1e-3))),
    "levels_do_not_rise": opinion(q=Quantiles((0.1, 0.9, 0.5), (-1e-3, 0.0, 1e-3))),
    "a_level_is_one": opinion(q=Quantiles((0.1, 0.5, 0.9, 1.0), (-1e-3, 0.0, 1e-3, 2e-3))),
    "lengths_differ": opinion(q=Quantiles(NINE, (0.0, 1e-3))),
    "there_are_no_quantiles": opinion(q=Quantiles((), ())),
    "quantiles_are_text": opinion(q=Quantiles(NINE, ("x",) * 9)),
}


@pytest.mark.parametrize("case", BAD)
def test_admit_when_an_opinion_is_bad_then_it_is_asleep_as_invalid_with_the_rule(case):
    bad = BAD[case]
    result = enter([bad, opinion("b")])
    assert [x.opinion.agent for x in result.awake] == ["b"]
    assert result.absent[bad.agent] == "invalid"
    assert result.details[bad.agent]


def test_admit_when_an_opinion_is_older_than_the_bar_then_it_is_stale_and_degrades():
    result = enter([opinion(k=-1)])
    assert result.absent["a"] == "stale"
    assert "300000 ms" in result.details["a"]
    assert {"stale", "invalid"} <= DEGRADING


def test_admit_when_an_agent_says_it_sleeps_then_its_reason_is_kept():
    nothing = opinion(p=None, q=None, risk_down=None, risk_up=None, evidence={"asleep": "data_gap"})
    assert enter([nothing]).absent["a"] == "data_gap"
    assert enter([nothing, nothing]).absent["a"] == "data_gap"


def test_admit_when_the_host_gave_an_agent_up_then_its_late_opinion_does_not_count():
    result = enter([opinion("a"), opinion("b")], {"a": "deadline"})
    assert [x.opinion.agent for x in result.awake] == ["b"]
    assert result.absent["a"] == "deadline"


def test_admit_when_members_are_not_heard_of_then_they_are_silent():
    assert enter([opinion("a")]).absent == dict.fromkeys(("b", "c", "climatology"), "silent")


def test_admit_when_an_opinion_comes_twice_then_it_counts_once():
    assert len(enter([opinion("a"), opinion("a")]).awake) == 1


@pytest.mark.parametrize("order", [(0, 1, 0), (1, 0, 0), (0, 0, 1)])
def test_admit_when_an_agent_contradicts_itself_then_neither_opinion_counts(order):
    pair = opinion("a", 0.6), opinion("a", 0.4, model_version="2")
    result = enter([pair[i] for i in order])
    assert not result.awake
    assert result.absent["a"] == "invalid"
    assert result.versions == {"a": "1"}


def test_admit_when_an_agent_is_unknown_then_it_is_awake_to_be_scored():
    assert [x.opinion.agent for x in enter([opinion("stranger")]).awake] == ["stranger"]


@pytest.mark.parametrize(("given_p", "kept"), [(0.0, 0.02), (1.0, 0.98), (0.3, 0.3), (1, 0.98)])
def test_examine_when_p_is_extreme_then_it_is_clipped(given_p, kept):
    found = examine(opinion(p=given_p), SETTINGS)
    assert isinstance(found, Admitted)
    assert found.p_up == kept


def test_examine_when_an_agent_gives_quantiles_only_then_p_is_one_minus_f_of_zero():
    q = quantiles(2e-4)
    found = examine(opinion(p=None, q=q), SETTINGS)
    assert isinstance(found, Admitted)
    assert found.p_up == pytest.approx(1 - float(q.table().cdf(0.0)[0]))
    assert 0.5 < found.p_up < 0.6


def test_examine_when_an_agent_forecasts_risk_only_then_it_is_awake_without_a_direction():
    found = examine(opinion(p=None, q=None), SETTINGS)
    assert isinstance(found, Admitted)
    assert found.p_up is None


def test_examine_when_quantiles_cross_then_they_are_sorted():
    crossed = Quantiles((0.1, 0.5, 0.9), (1e-3, 0.0, -1e-3))
    found = examine(opinion(q=crossed), SETTINGS)
    assert isinstance(found, Admitted)
    assert found.said.levels is not None
    assert [found.said.levels[k] for k in (2, 6, 10)] == pytest.approx(
        [-1e-3, 0.0, 1e-3], abs=1e-15
    )


@given(
    st.lists(st.floats(-0.05, 0.05), min_size=9, max_size=9),
    st.sampled_from([NINE, (0.1, 0.5, 0.9)]),
)
def test_canonical_when_levels_differ_then_it_is_the_completed_quantile_function(values, levels):
    values = tuple(values[: len(levels)])
    found = examine(opinion(q=Quantiles(levels, values)), SETTINGS)
    assert isinstance(found, Admitted)
    row = np.array(found.said.levels)
    expected = QuantileTable.of(levels, values).ppf(CANONICAL_LEVELS)[0]
    np.testing.assert_allclose(row, expected, atol=1e-15)
    assert np.all(np.diff(row) >= 0)
    shared = [CANONICAL_LEVELS.index(level) for level in levels]
    np.testing.assert_allclose(row[shared], sorted(values), atol=1e-16, rtol=1e-15)


@given(st.permutations(["a", "b", "c", "climatology"]))
def test_admit_when_the_order_of_opinions_changes_then_nothing_does(order):
    said = [opinion(agent, 0.5 + 0.01 * i) for i, agent in enumerate("abc")]
    said.append(opinion("climatology", math.nan))
    by_name = {x.agent: x for x in said}
    one, two = enter([by_name[agent] for agent in order]), enter(said)
    assert [x.opinion.agent for x in one.awake] == ["a", "b", "c"]
    assert (one.awake, list(one.absent.items())) == (two.awake, list(two.absent.items()))


def test_examine_when_as_of_moves_then_the_judgement_of_the_content_is_the_same():
    found, later = examine(opinion(), SETTINGS), examine(opinion(as_of=T0 + 9 * STEP), SETTINGS)
    assert isinstance(found, Admitted)
    assert replace(found, opinion=later.opinion) == later
    assert isinstance(examine(opinion(p=math.nan), SETTINGS), Asleep)
