"""The council as a :class:`~domain.ports.Strategy`: fold, fuse, decide, explain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from consensus.admission import Admission, Admitted, Asleep, admit, examine
from consensus.debate import Case, covered
from consensus.decision import Quality, decide
from consensus.explain import explanations, sentence
from consensus.fusion import fuse, learnt_for
from consensus.learnt import Learnt
from consensus.rounds import Published, Said
from consensus.scoring import Fold
from consensus.settings import CouncilSettings, DecisionRules
from consensus.track import Track
from consensus.volatility import bar_sigma, move
from consensus.weights import standing, weights_rows
from domain.decision import Consensus, Costs, Decision
from domain.errors import SettingError
from domain.market import BookSnapshot, MarketState
from domain.opinion import Opinion, Outcome
from domain.times import timeframe_ms
from domain.trading import ClosedTrade

SNAPSHOT_VERSION = 2
_SCORED_ORIGINS = ("bar", "warm_up")
MOVES = (1, 3, 48)  # bars
_REMEMBERED = 256  # opinions whose examination is remembered
_Key = tuple[str, str, int]  # symbol, timeframe, horizon_bars


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything :meth:`Council.generate_signal` reads.

    Attributes
    ----------
    consensus : None if no member has a direction.
    learnt : what the fold had learned. ``sigma`` : volatility of the horizon, or None.
    case : what the debate could point at.
    kappa, kappa_n : κ and the outcomes behind its slope.
    coverage, coverage_n : observed coverage of the published p10–p90, None before the first.
    state_seq : ledger rows up to this sequence number made the weights.
    """

    state: MarketState
    admission: Admission
    consensus: Consensus | None
    costs: Costs
    learnt: Learnt
    sigma: float | None
    case: Case
    kappa: float
    kappa_n: int
    coverage: float | None
    coverage_n: int
    state_seq: int


class Council:
    """The consensus strategy. Its state is a fold over ledger rows and nothing else.

    Parameters
    ----------
    costs : what a round trip would cost in a market state.
    source : label of the feed, copied into decisions.
    git_commit : of the running code, copied into decisions.
    platform : what the last bits of a number depend on, copied into decisions.
    """

    name = "council"

    def __init__(
        self,
        settings: CouncilSettings,
        rules: DecisionRules,
        costs: Callable[[MarketState], Costs],
        source: str = "replay",
        git_commit: str = "",
        platform: str = "",
    ) -> None:
        self.settings, self.rules = settings, rules
        self.source, self.git_commit, self.platform = source, git_commit, platform
        self._costs = costs
        self._tracks: dict[_Key, Track] = {}
        self._judged: dict[int, tuple[Opinion, Admitted | Asleep]] = {}
        self._rules_body = asdict(rules)
        self._settings_body = asdict(settings)
        self.state_seq = 0

    def prepare_state(
        self, state: MarketState, opinions: Sequence[Opinion], absent: Mapping[str, str]
    ) -> Prepared:
        """Admit the opinions and pool them with the weights earned so far."""
        admission = admit(
            state.symbol, state.timeframe, state.as_of, opinions, absent, self.settings,
            self._judge,
        )  # fmt: skip
        learnt, fold = self.learnt(state.symbol, state.timeframe, state.as_of, admission)
        scale = bar_sigma(state.bars)
        sigma = None if scale is None else scale * math.sqrt(self.settings.horizon_bars)
        case = case_of(state, scale, self.rules.min_liquidity)
        consensus = fuse(
            state.symbol, state.timeframe, state.as_of, admission, learnt, self.settings, sigma,
            case, self.state_seq,
        )  # fmt: skip
        return Prepared(
            state=state,
            admission=admission,
            consensus=consensus,
            costs=self._costs(state),
            learnt=learnt,
            sigma=sigma,
            case=case,
            kappa=fold.edge.kappa(self.settings.kappa_prior, self.settings.kappa_weight),
            kappa_n=fold.edge.n,
            coverage=fold.coverage.share,
            coverage_n=fold.coverage.n,
            state_seq=self.state_seq,
        )

    def learnt(
        self, symbol: str, timeframe: str, as_of: int, admission: Admission
    ) -> tuple[Learnt, Fold]:
        """Return what the pools of an instant read, and the fold that it is a view of."""
        track = self._track(symbol, timeframe)
        fold, losses = track.head, standing(track.head, self.settings)
        return learnt_for(admission, losses, fold, track.copy_of(as_of)), fold

    def generate_signal(self, prepared: Prepared, now: int) -> Decision:
        """Decide; a pure function of ``prepared`` and the emission time ``now`` (ms)."""
        state, consensus, costs = prepared.state, prepared.consensus, prepared.costs
        quality = self._quality(prepared, now)
        verdict = decide(consensus, costs, prepared.kappa, self.rules, quality)
        return Decision(
            symbol=state.symbol,
            timeframe=state.timeframe,
            as_of=state.as_of,
            ts=now,
            horizon_bars=self.settings.horizon_bars,
            strategy=self.name,
            intent=verdict.action,
            action=verdict.action,
            reasons=tuple(reason.value for reason in verdict.reasons),
            reason=sentence(verdict, consensus, costs, prepared.kappa, self.rules, quality),
            prob_up=consensus.p_up if consensus else None,
            expected_return=consensus.expected_return if consensus else None,
            quantiles=consensus.quantiles if consensus else None,
            risk_score=verdict.risk_score,
            risk_down=consensus.risk_down if consensus else None,
            risk_up=consensus.risk_up if consensus else None,
            break_even_prob=verdict.break_even_prob,
            stop=None,  # by ATR and regime, like those of every strategy that suggests none
            target=None,
            weights=consensus.weights if consensus else {},
            contributions=consensus.contributions if consensus else {},
            explanations=explanations(prepared.admission.awake, consensus),
            absent=prepared.admission.absent,
            margins=verdict.margins,
            inputs=self._inputs(prepared, quality),
            model_versions=prepared.admission.versions,
            source=self.source,
            state_seq=prepared.state_seq,
            git_commit=self.git_commit,
        )

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        """Fold ledger rows in the order of their sequence numbers.

        Opinions, outcomes and this strategy's own decisions on bars are folded, other records
        passed over. A row whose number is not above :attr:`state_seq` was folded before and is
        skipped, so a delivery may be repeated; rows must therefore not be held back and
        delivered after later ones.
        """
        for seq, record in sorted(rows, key=lambda row: row[0]):
            if seq <= self.state_seq:
                continue
            self.state_seq = seq
            if isinstance(record, Opinion):
                self._observe_opinion(record)
            elif isinstance(record, Outcome):
                self._observe_outcome(record)
            elif isinstance(record, Decision):
                self._observe_decision(record)

    def post_trade_update(self, trade: ClosedTrade) -> None:
        """Learn nothing: weights come from outcomes, which exist whether or not one traded."""

    def snapshot(self) -> dict[str, Any]:
        """Return the fold in JSON's types; floats survive the round trip bit for bit."""
        return {
            "version": SNAPSHOT_VERSION,
            "fold": self.settings.fold_id,
            "state_seq": self.state_seq,
            "tracks": [
                {"symbol": key[0], "timeframe": key[1], "horizon_bars": key[2]} | track.snapshot()
                for key, track in sorted(self._tracks.items())
            ],
        }

    def restore(self, body: Mapping[str, Any]) -> None:
        """Continue from a snapshot: observe only rows with ``seq > state_seq`` after it.

        Raises
        ------
        SettingError : if it was made under settings that fold differently; start from the
            ledger's first row instead.
        """
        made = (body.get("version"), body.get("fold"))
        if made != (SNAPSHOT_VERSION, self.settings.fold_id):
            raise SettingError(
                "snapshot", "must be made under the settings that fold it now", made,
                "Fold the ledger from its first row.",
            )  # fmt: skip
        self.state_seq = int(body["state_seq"])
        self._tracks = {
            (item["symbol"], item["timeframe"], int(item["horizon_bars"])): Track.restored(
                item, self.settings, timeframe_ms(item["timeframe"])
            )
            for item in body["tracks"]
        }

    def weights_view(self, symbol: str) -> list[dict[str, Any]]:
        """Return every agent's weight and score on a symbol, by timeframe and agent.

        ``awake`` tells whether it had an admitted opinion at the newest instant known. Before
        the first row of a symbol the list is empty.
        """
        return [
            {"symbol": symbol, "timeframe": key[1], "horizon_bars": key[2]} | row
            for key, track in sorted(item for item in self._tracks.items() if item[0][0] == symbol)
            for row in weights_rows(track.head, track.awake(), self.settings)
        ]

    def _track(self, symbol: str, timeframe: str) -> Track:
        key = (symbol, timeframe, self.settings.horizon_bars)
        return self._tracks.get(key) or Track(self.settings, timeframe_ms(timeframe))

    def _own_track(self, record: Opinion | Outcome | Decision) -> Track:
        key = (record.symbol, record.timeframe, record.horizon_bars)
        if key not in self._tracks:
            self._tracks[key] = Track(self.settings, timeframe_ms(record.timeframe))
        return self._tracks[key]

    def _judge(self, opinion: Opinion, settings: CouncilSettings) -> Admitted | Asleep:
        """Examine once what is both decided on and scored."""
        known = self._judged.get(id(opinion))
        if known is not None and known[0] is opinion:
            return known[1]
        verdict = examine(opinion, settings)
        if len(self._judged) >= _REMEMBERED:
            self._judged.clear()
        self._judged[id(opinion)] = (opinion, verdict)
        return verdict

    def _observe_opinion(self, opinion: Opinion) -> None:
        verdict = self._judge(opinion, self.settings)
        if isinstance(verdict, Admitted):
            self._own_track(opinion).opinion(opinion.as_of, opinion.agent, verdict.said)

    def _observe_outcome(self, outcome: Outcome) -> None:
        if outcome.horizon_bars == self.settings.horizon_bars and math.isfinite(outcome.log_return):
            self._own_track(outcome).outcome(
                outcome.as_of, outcome.log_return, outcome.drop, outcome.rise
            )

    def _observe_decision(self, decision: Decision) -> None:
        mine = decision.strategy == self.name and decision.origin in _SCORED_ORIGINS
        if not mine or decision.horizon_bars != self.settings.horizon_bars:
            return
        if decision.prob_up is None:
            return
        quantiles, inputs = decision.quantiles, decision.inputs
        sigma, learnt = inputs.get("sigma"), inputs.get("learnt")
        published = Published(
            p_up=decision.prob_up,
            mean_abs=inputs.get("mean_abs_return"),
            low=quantiles.at(0.1) if quantiles else None,
            high=quantiles.at(0.9) if quantiles else None,
            candidates=inputs.get("candidates", {}),
            pooled=Said.from_list(inputs["pooled"]) if "pooled" in inputs else Said(),
            theta=tuple(learnt["theta"]) if learnt else None,
            sigma=sigma,
        )
        self._own_track(decision).publication(decision.as_of, published)

    def _quality(self, prepared: Prepared, now: int) -> Quality:
        state = prepared.state
        spread, liquidity = _book(state.book)
        return Quality(
            age_ms=now - state.as_of,
            bar_ms=timeframe_ms(state.timeframe),
            spread_bps=spread,
            liquidity=liquidity,
            data_gap="data_gap" in prepared.admission.absent.values(),
            coverage=prepared.coverage,
            coverage_n=prepared.coverage_n,
        )

    def _inputs(self, prepared: Prepared, quality: Quality) -> dict[str, Any]:
        """What the decision was made from, so that :mod:`consensus.replay` can repeat it."""
        consensus, costs, state = prepared.consensus, prepared.costs, prepared.state
        return {
            "costs": {
                "fee_bps": costs.fee_bps,
                "spread_bps": costs.spread_bps,
                "slippage_bps": costs.slippage_bps,
                "funding_bps": costs.funding_bps,
            },
            "round_trip": costs.round_trip,
            "kappa": prepared.kappa,
            "kappa_n": prepared.kappa_n,
            "mean_abs_return": consensus.mean_abs_return if consensus else None,
            "coherence_gap": consensus.coherence_gap if consensus else None,
            "dispersion": consensus.dispersion if consensus else None,
            "candidates": consensus.candidates if consensus else {},
            "shares": consensus.shares if consensus else {},
            "pooled": list(consensus.pooled) if consensus else Said().as_list(),
            "sigma": prepared.sigma,
            "case": prepared.case.as_dict(),
            "debate": list(consensus.debate) if consensus else [],
            "quorum": consensus.quorum if consensus else 0.0,
            "forecasters": consensus.forecasters if consensus else 0,
            "learnt": prepared.learnt.as_dict(),
            "refused": prepared.admission.details,
            "quality": {
                "age_ms": quality.age_ms,
                "bar_ms": quality.bar_ms,
                "spread_bps": quality.spread_bps,
                "liquidity": quality.liquidity,
                "data_gap": quality.data_gap,
                "coverage": quality.coverage,
                "coverage_n": quality.coverage_n,
            },
            "liquidity": "not_measured" if quality.liquidity is None else "measured",
            "close": float(state.bars.close[-1]),
            "atr_14": _feature(state, "atr_14"),
            "regime": _feature(state, "regime"),
            "rules": self._rules_body,
            "council": self._settings_body,
            "platform": self.platform,
        }


def case_of(state: MarketState, sigma: float | None, min_liquidity: float) -> Case:
    """Return what a debate about a market state can point at.

    Parameters
    ----------
    sigma : of one bar, log return, or None. ``min_liquidity`` : required of a book, quote units.
    """
    _, liquidity = _book(state.book)
    last, short, long = (move(state.bars, count, sigma) for count in MOVES)
    return Case(last, short, long, covered(liquidity, min_liquidity))


def _feature(state: MarketState, name: str) -> float | None:
    if name not in state.features.names or not len(state.features.values):
        return None
    value = state.feature(name)
    return value if math.isfinite(value) else None


def _book(book: BookSnapshot | None) -> tuple[float | None, float | None]:
    """Spread in bps and liquidity in quote units; an empty side has no spread."""
    if book is None:
        return None, None
    return (book.spread_bps if book.two_sided else None), book.liquidity()
