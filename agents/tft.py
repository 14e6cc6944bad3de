"""The TFT: three temporal fusion transformers behind one voice, exported, without their library.

* trend: P(up) after the horizon, pulled towards ½ as far as held-out days asked for;
* return: quantiles of y/σ̂, σ̂ the HAR-with-ranges volatility, as a correction of the residual
  quantiles of training;
* risk: P(adverse move) on both sides, as a correction of a logistic curve in ln σ̂.

Each network reads the last 60 bars, knows the calendar of the next 5, and was trained by
:mod:`agents.training.tft`. A window is always evaluated alone (batch 1), so an opinion does not
depend on what else is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from agents.artifacts import Artifact, FolderStore
from agents.contract import Floats
from agents.graphs import session_of
from agents.heads import TARGETS, Head, Prediction, ThreeHeads
from agents.risk import Logistic, residual_quantiles, sigmoid
from agents.scales import pair_of
from agents.volatility import HarModel
from agents.windows import Run, joined_rows
from data.features.calendar import calendar_columns
from domain.errors import ModelError
from domain.market import MarketState
from domain.quantiles import CANONICAL_LEVELS

NAME = "tft"
ENCODER = 60  # bars
UNKNOWN = "?"  # the symbol class of whatever was not trained on
KNOWN = ("tod_sin_1", "tod_cos_1", "slot_hour", "weekend")
_UNIT = {"slot_hour": 12.0}
_CLIP = 4.0  # standard deviations
_TOP = 3  # variables named in a rationale

Singles = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TftInputs:
    """How a network's tensors are made of bars and features; the same in training and serving.

    Attributes
    ----------
    past : feature columns. ``mean``, ``sd`` : (len(past),) of the training rows.
    known : calendar columns.
    symbols : classes; the first is :data:`UNKNOWN`.
    """

    past: tuple[str, ...]
    known: tuple[str, ...]
    mean: Floats
    sd: Floats
    symbols: tuple[str, ...]
    encoder: int
    horizon: int

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ModelError : if a field is missing or does not fit.
        """
        try:
            made = cls(
                tuple(body["past"]), tuple(body["known"]), np.asarray(body["mean"], np.float64),
                np.asarray(body["sd"], np.float64), tuple(body["symbols"]),
                int(body["encoder"]), int(body["horizon"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError("tft inputs", f"lack a field or have a bad one: {error}") from error
        size = (len(made.past),)
        finite = np.isfinite(made.mean).all() and np.isfinite(made.sd).all()
        if made.mean.shape != size or made.sd.shape != size or not (finite and (made.sd > 0).all()):
            raise ModelError("tft inputs", f"need {size[0]} finite means and deviations > 0")
        if not set(made.known) <= set(KNOWN):
            raise ModelError("tft inputs", f"know the calendar by {', '.join(KNOWN)}", made.known)
        return made

    @property
    def identity(self) -> tuple[object, ...]:
        """Return what equal inputs have in common."""
        numbers = self.mean.tobytes(), self.sd.tobytes()
        return self.past, self.known, *numbers, self.symbols, self.encoder, self.horizon

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "past": list(self.past), "known": list(self.known), "mean": self.mean.tolist(),
            "sd": self.sd.tolist(), "symbols": list(self.symbols), "encoder": self.encoder,
            "horizon": self.horizon,
        }  # fmt: skip

    def scaled(self, rows: Floats) -> Singles:
        """Return standardised feature rows (n, len(past)), clipped at ±4; NaN stays."""
        return np.clip((rows - self.mean) / self.sd, -_CLIP, _CLIP).astype(np.float32)

    def calendar(self, ts: NDArray[np.int64], step_ms: int) -> Singles:
        """Return the known variables of bars that open at ``ts``, (n, len(known))."""
        columns = calendar_columns(ts, step_ms)
        return np.stack([columns[name] / _UNIT.get(name, 1.0) for name in self.known], 1).astype(
            np.float32
        )

    def symbol(self, name: str) -> int:
        """Return a symbol's class; a perpetual has its pair's."""
        pair = pair_of(name)
        return self.symbols.index(pair) if pair in self.symbols else 0


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """A network's answers to n windows.

    Attributes
    ----------
    out : (n, outputs) at the horizon's last bar.
    attention : (n, encoder). ``weights`` : (n, variables).
    """

    out: Floats
    attention: Floats
    weights: Floats


class _Network:
    """One exported network and what is needed around it.

    Raises
    ------
    ModelError : if the artifact does not hold such a network.
    """

    outputs = 1

    def __init__(self, artifact: Artifact) -> None:
        self.params = artifact.params()
        self.inputs = inputs = TftInputs.from_json(self.params.get("inputs", {}))
        self.feature_rows = inputs.encoder
        self.variables = (*inputs.known, *inputs.past)
        self._session = session_of(artifact)
        size, ahead = inputs.encoder, inputs.horizon
        shapes = {
            "past": [1, size, len(inputs.past)], "known": [1, size + ahead, len(inputs.known)],
            "forecast": [1, ahead, self.outputs],
        }  # fmt: skip
        nodes = (*self._session.get_inputs(), *self._session.get_outputs())
        found = {node.name: node.shape for node in nodes if node.name in shapes}
        if found != shapes:
            raise ModelError(
                str(artifact.folder), f"its network must be of the shapes {shapes}", found,
                "It was trained by another version of the program: train again.",
            )  # fmt: skip
        if inputs.horizon != artifact.card.horizon_bars:
            raise ModelError(
                str(artifact.folder), "its card and its network must have one horizon",
                (artifact.card.horizon_bars, inputs.horizon),
            )  # fmt: skip

    def ask(self, run: Run, states: Sequence[MarketState]) -> tuple[_Said, NDArray[np.bool_]]:
        """Evaluate the states' windows one by one; rows without a whole window are 0."""
        inputs = self.inputs
        windows = run.once(inputs.identity, lambda: _windows(run, states, inputs))
        n, group = len(states), np.array([inputs.symbol(states[0].symbol)], np.int64)
        said = _Said(
            np.zeros((n, self.outputs)), np.zeros((n, inputs.encoder)),
            np.zeros((n, len(self.variables))),
        )  # fmt: skip
        for k in np.flatnonzero(windows.whole).tolist():
            at = slice(k - windows.first, k - windows.first + 1)
            feed = {"symbol": group, "past": windows.past[at], "known": windows.known[at]}
            y, attention, weights = self._session.run(None, feed)
            said.out[k], said.attention[k], said.weights[k] = y[0, -1], attention[0], weights[0]
        return said, windows.whole


class _Trend(_Network):
    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self._shrink = float(self.params.get("shrink", 1.0))

    def predict(self, run: Run, states: Sequence[MarketState]) -> Prediction:
        said, whole = self.ask(run, states)
        evidence = [_reasons(said, k, self.variables) for k in range(len(states))]
        return Prediction(whole, p_up=sigmoid(self._shrink * said.out[:, 0]), evidence=evidence)


class _Return(_Network):
    outputs = len(CANONICAL_LEVELS)

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self._har = HarModel.from_json(self.params["har"])
        self._base = residual_quantiles(self.params["residuals"])
        self._drift = float(self.params["drift"])

    def predict(self, run: Run, states: Sequence[MarketState]) -> Prediction:
        said, whole = self.ask(run, states)
        unit = np.sort(self._base + said.out, axis=1)
        har = self._har.sigma(run)
        quantiles = har[:, None] * unit
        sigma = har * (unit[:, -3] - unit[:, 2]) / (self._base[-3] - self._base[2])
        return Prediction(whole, sigma=sigma, quantiles=quantiles, drift=self._drift)


class _Risk(_Network):
    outputs = 2

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self._har = HarModel.from_json(self.params["har"])
        self._curves = Logistic(**self.params["down"]), Logistic(**self.params["up"])

    def predict(self, run: Run, states: Sequence[MarketState]) -> Prediction:
        said, whole = self.ask(run, states)
        har = self._har.sigma(run)
        down, up = (
            sigmoid(logit(curve.chance(har)) + said.out[:, k])
            for k, curve in enumerate(self._curves)
        )
        return Prediction(whole, risk_down=down, risk_up=up)


class Tft(ThreeHeads):
    """Trend, return and risk, each by a network of its own."""

    def __init__(self, trend: Artifact, ret: Artifact, risk: Artifact) -> None:
        artifacts = (trend, ret, risk)
        super().__init__(NAME, {t: head_of(a) for t, a in zip(TARGETS, artifacts, strict=True)},
                         artifacts)  # fmt: skip

    @classmethod
    def from_store(cls, store: FolderStore) -> Tft:
        """Load the three targets in use: promoted, else shipped."""
        return cls(*(store.open(f"{NAME}/{target}") for target in TARGETS))

    def words(self, p: float, sigma: float, evidence: Mapping[str, Any]) -> str:
        """Say what was seen, which variables were read most, and how recent that was."""
        told = ", ".join(f"{name} {share:.0%}" for name, share in evidence["variables"].items())
        return (
            f"{p:.1%} for up and a width of {sigma * 1e4:.1f} bp; it reads {told}, and the last "
            f"hour has {evidence['attention_last_12']:.0%} of its attention."
        )


def head_of(artifact: Artifact) -> Head:
    """Return the head that an artifact holds."""
    return _HEADS[artifact.card.target](artifact)


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """Windows of a run's states: (m, encoder, ·) of those that have enough rows.

    Attributes
    ----------
    first : how many of the run's states have too few rows before them.
    whole : (n,) whether each state's window is complete and finite.
    """

    first: int
    whole: NDArray[np.bool_]
    past: Singles
    known: Singles


def _windows(run: Run, states: Sequence[MarketState], inputs: TftInputs) -> _Windows:
    names = states[0].features.names
    columns = [names.index(name) for name in inputs.past]
    rows = inputs.scaled(joined_rows(states, run, inputs.encoder, columns))
    n, size, total = len(states), inputs.encoder, inputs.encoder + inputs.horizon
    first = max(0, n - (len(rows) - size + 1))
    whole = np.zeros(n, np.bool_)
    if first >= n:
        past = np.zeros((0, size, len(columns)), np.float32)
        return _Windows(n, whole, past, np.zeros((0, total, len(inputs.known)), np.float32))
    past = sliding_window_view(rows, size, axis=0).transpose(0, 2, 1)
    whole[first:] = np.isfinite(past).all(axis=(1, 2))
    step, last = run.bars.step_ms, run.last(run.bars.ts)
    opens = last[first] + step * np.arange(1 - size, n - first + inputs.horizon)
    ahead = (inputs.known, size, inputs.horizon)
    known = run.once(
        ahead, lambda: np.ascontiguousarray(
            sliding_window_view(inputs.calendar(opens, step), total, axis=0).transpose(0, 2, 1)
        ),
    )  # fmt: skip
    return _Windows(first, whole, np.ascontiguousarray(past), known)


def _reasons(said: _Said, row: int, variables: Sequence[str]) -> dict[str, Any]:
    """The variables the network weighs most, and the share of its attention on the last hour."""
    order = np.argsort(-said.weights[row], kind="stable")[:_TOP]
    seen = said.attention[row]
    return {
        "variables": {variables[k]: round(float(said.weights[row, k]), 4) for k in order.tolist()},
        "attention_last_12": round(float(seen[-12:].sum() / max(seen.sum(), 1e-12)), 4),
    }


def logit(p: Floats) -> Floats:
    """Return ln(p / (1 − p)), p clipped to [1e-6, 1 − 1e-6]."""
    clipped = np.clip(p, 1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(clipped / (1.0 - clipped)))


_HEADS: dict[str, type[_Trend] | type[_Return] | type[_Risk]] = {
    "trend": _Trend,
    "return": _Return,
    "risk": _Risk,
}
