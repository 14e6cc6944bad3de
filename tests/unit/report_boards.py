"""Scoreboards for tests of the reports: random, but with numbers that fit one another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from domain.canonical import plain
from domain.times import iso

AGENTS = {"climatology": 0.0, "technical": 0.3, "baseline": 10.0, "tft": 7.0, "microstructure": 8.0,
          "chronos": -0.4, "risk": None}  # fmt: skip
BASELINES = ("half", "base_rate", "trailing", "ewma", "har", "har_ranges", "equal_weight")
_PINBALL = {
    "climatology": 6.84, "technical": 6.50, "baseline": 6.40, "tft": 6.42, "chronos": 6.49,
    "risk": 6.42, "consensus": 6.39, "trailing": 6.84, "ewma": 6.497, "har": 6.449,
    "har_ranges": 6.421,
}  # fmt: skip
_START, _DAYS, _DAY = 1_735_689_600_000, 365, 86_400_000
KEYS = (
    "brier", "brier_skill_1e4", "log_loss", "auc", "accuracy", "pinball_bps", "coverage_80",
    "interval_score_bps", "risk_brier", "risk_auc", "weight_mean", "dm_t", "calibration_slope",
    "gain_se", "gain_lo", "gain_hi", "ece", "ece_noise", "ece_noise_95", "crps_bps",
    "pinball_vs_ewma_pct", "qlike", "risk_ece", "risk_up_brier", "risk_up_auc",
    "risk_sigma_brier", "risk_sigma_auc", "risk_skill_pct", "e_value", "cs_lo", "cs_hi",
)  # fmt: skip


def full_board(seed: int = 7) -> dict[str, Any]:
    """A year of BTC/USDT with every part that a board can have."""
    rng = np.random.default_rng(seed)
    agents = {
        name: _scores(rng, name, gain, weight=1 / len(AGENTS)) for name, gain in AGENTS.items()
    }
    council = _scores(rng, "consensus", 9.6)
    baselines = {name: _scores(rng, name, _baseline_gain(name)) for name in BASELINES}
    everybody = {**agents, "consensus": council, **baselines}
    common = {name: {k: v for k, v in s.items() if k != "detail"} for name, s in everybody.items()}
    for name, row in baselines.items():
        row["detail"] = dict.fromkeys(row["detail"]) if name == "half" else row["detail"]
    made: dict[str, Any] = plain({
        "data": {"symbol": "BTC/USDT", "timeframe": "5m", "start": iso(_START),
                 "end": iso(_START + _DAYS * _DAY), "bars": 105_120, "sha256": "ab" * 32},
        "horizon_bars": 5, "agents": agents, "consensus": council, "baselines": baselines,
        "common": common, "models": {name: f"{k:02d}c1d2e3f4a5" for k, name in enumerate(agents)},
        "commit": "0123456789abcdef" * 2, "comparisons": _comparisons(rng, everybody),
        "overfitting": {
            "pbo": 0.21, "candidates": ["climatology", "technical", "baseline", "tft"],
            "blocks": 16, "logits": list(rng.normal(0.9, 1.1, 600)),
            "trials": {"counted": 61, "tune": 49, "looks": 12, "logged": "docs/trials.csv"},
        },
        "controls": _controls(), "drift": _drift(rng),
        "notes": ["The model of chronos is 212 days old.", "tft slept on 1 204 bars."],
        "weights": _weights(rng), "trial": "logged",
        "refit": {"folds": [{"start": iso(_START + 91 * k * _DAY),
                             "end": iso(_START + 91 * (k + 1) * _DAY),
                             "trained_until": iso(_START + 91 * k * _DAY)} for k in range(4)]},
        "cpcv": {name: _paths(rng, gain) for name, gain in AGENTS.items() if gain is not None},
    })  # fmt: skip
    return made


def null_board() -> dict[str, Any]:
    """Every key that a board can have, and nothing under any of them."""
    row: dict[str, Any] = {"n": 0, "in_sample": 0, **dict.fromkeys(KEYS)}
    detail = dict.fromkeys(("brier_parts", "reliability", "pit", "coverage", "risk_coverage",
                            "path", "risk_reliability"))  # fmt: skip
    return {
        "data": {"symbol": "BTC/USDT", "timeframe": "5m", "start": iso(_START),
                 "end": iso(_START + _DAY), "bars": 288, "sha256": ""},
        "horizon_bars": 5, "agents": {"technical": {**row, "detail": detail}},
        "consensus": {**row, "detail": None}, "baselines": {"ewma": dict(row)},
        "common": {"technical": dict(row), "consensus": dict(row), "ewma": dict(row)},
        "models": {"technical": "1"}, "commit": "", "comparisons": [], "overfitting": None,
        "controls": None, "drift": None, "notes": [], "weights": [], "refit": None, "cpcv": None,
        "trial": "",
    }  # fmt: skip


def old_board() -> dict[str, Any]:
    """The shape of DESIGN.md before there was anything more."""
    full = full_board()
    keys = ("n", *KEYS[:13], "in_sample")

    def cut(row: dict[str, Any]) -> dict[str, Any]:
        return {key: row[key] for key in keys}

    groups = ("agents", "baselines", "common")
    return {
        **{key: full[key] for key in ("data", "horizon_bars", "models", "commit")},
        **{key: {name: cut(row) for name, row in full[key].items()} for key in groups},
        "consensus": cut(full["consensus"]),
    }


def _baseline_gain(name: str) -> float | None:
    return {"half": 0.0, "equal_weight": 6.1}.get(name, -0.2)


def _scores(
    rng: np.random.Generator, name: str, gain: float | None, weight: float | None = None
) -> dict[str, Any]:
    row: dict[str, Any] = {"n": 105_115, "in_sample": 0, **dict.fromkeys(KEYS)}
    row["weight_mean"] = weight
    if gain is not None:
        row |= _direction(rng, name, gain)
    if name in _PINBALL:
        row |= _range(name)
    if name in ("baseline", "risk", "consensus", "ewma", "har_ranges", "climatology"):
        row |= _risk(name)
    row["detail"] = {
        "brier_parts": _parts(row), "reliability": _bins(rng, gain), "pit": _pit(rng, name),
        "coverage": _coverage(rng, name), "risk_coverage": _selective(rng, gain),
        "path": _path(rng, gain), "risk_reliability": _risk_bins(rng, row["risk_auc"]),
    }  # fmt: skip
    return row


def _direction(rng: np.random.Generator, name: str, gain: float) -> dict[str, Any]:
    error = 0.0 if name == "half" else 0.3 + 1.5 * min(abs(gain) / 10, 1.0)
    brier, t = 0.25 - gain * 1e-4, gain / error if error else None
    return {
        "brier": brier, "brier_skill_1e4": gain, "log_loss": math.log(2) - 2e-4 * gain,
        "auc": 0.5 + 0.0036 * gain, "accuracy": 0.5 + 0.0026 * gain, "dm_t": t,
        "calibration_slope": 0.92 if gain > 1 else None, "gain_se": error or None,
        "gain_lo": gain - 2 * error, "gain_hi": gain + 2 * error, "ece": 0.0042,
        "ece_noise": 0.0038, "ece_noise_95": 0.0061, "e_value": math.exp(0.4 * (t or 0.0) ** 2),
        "cs_lo": gain - 4.2 * error, "cs_hi": gain + 4.2 * error,
    }  # fmt: skip


def _range(name: str) -> dict[str, Any]:
    pinball = _PINBALL[name]
    return {
        "pinball_bps": pinball, "coverage_80": 0.782 if name == "ewma" else 0.797,
        "interval_score_bps": 14.65 * pinball, "crps_bps": 2.18 * pinball,
        "pinball_vs_ewma_pct": 100 * (pinball / _PINBALL["ewma"] - 1),
        "qlike": -11.9 + (pinball - 6.4) * 1.1,
    }  # fmt: skip


def _risk(name: str) -> dict[str, Any]:
    auc = {"ewma": 0.811, "har_ranges": 0.8355, "climatology": 0.629}.get(name, 0.8425)
    brier = 0.07352 * (1 - 1.4 * (auc - 0.5) ** 2)
    return {
        "risk_brier": brier, "risk_auc": auc, "risk_ece": 0.0084, "risk_up_brier": brier * 1.02,
        "risk_up_auc": auc - 0.004, "risk_sigma_brier": 0.168, "risk_sigma_auc": auc - 0.126,
        "risk_skill_pct": 100 * (1 - brier / 0.07352),
    }  # fmt: skip


def _parts(row: dict[str, Any]) -> dict[str, float] | None:
    if row["brier"] is None:
        return None
    gain = row["brier_skill_1e4"] * 1e-4
    return {"reliability": 3e-5, "resolution": max(gain, 0.0) + 3.6e-5, "uncertainty": 0.25,
            "within": 6e-6}  # fmt: skip


def _bins(rng: np.random.Generator, gain: float | None) -> list[dict[str, Any]] | None:
    if gain is None:
        return None
    width = 0.004 + 0.05 * math.sqrt(max(gain, 0.0) / 10)
    forecast = 0.5 + width * np.linspace(-1, 1, 10)
    observed = 0.5 + 0.93 * (forecast - 0.5) + rng.normal(0, 0.0055, 10)
    return [
        {"lo": f - width / 10, "hi": f + width / 10, "n": 10_511, "forecast": f, "observed": o,
         "band_lo": f - 0.0096, "band_hi": f + 0.0096}
        for f, o in zip(forecast, observed, strict=True)
    ]  # fmt: skip


def _risk_bins(rng: np.random.Generator, auc: float | None) -> list[dict[str, Any]] | None:
    if auc is None:
        return None
    forecast = 0.004 + 0.4 * np.linspace(0.02, 1, 10) ** 2.5
    return [
        {"lo": f * 0.9, "hi": f * 1.1, "n": 10_511, "forecast": f,
         "observed": f * (1 + rng.normal(0, 0.04)), "band_lo": f * 0.94, "band_hi": f * 1.06}
        for f in forecast
    ]  # fmt: skip


def _pit(rng: np.random.Generator, name: str) -> dict[str, Any] | None:
    if name not in _PINBALL:
        return None
    shape = 5256 * (1 + 0.05 * np.cos(np.linspace(0, 2 * np.pi, 20)))
    counts = [int(c) for c in shape + rng.normal(0, 70, 20)]
    return {"counts": counts, "n": sum(counts), "band_lo": 5080.0, "band_hi": 5430.0}


def _coverage(rng: np.random.Generator, name: str) -> dict[str, Any] | None:
    if name not in _PINBALL:
        return None

    def group(labels: list[str], spread: float) -> list[dict[str, Any]]:
        return [{"label": label, "n": 105_115 // len(labels),
                 "coverage": 0.797 + rng.normal(0, spread)} for label in labels]  # fmt: skip

    walk = 0.8 + np.cumsum(rng.normal(0, 0.004, 111)) * 0.6
    return {
        "terciles": group(["low", "middle", "high"], 0.008),
        "blocks": group(["00–06", "06–12", "12–18", "18–24"], 0.01),
        "months": group([f"2025-{k:02d}" for k in range(1, 13)], 0.018),
        "rolling": [{"at": iso(_START + (30 + 3 * k) * _DAY), "coverage": v}
                    for k, v in enumerate(walk)],
    }  # fmt: skip


def _selective(rng: np.random.Generator, gain: float | None) -> list[dict[str, Any]] | None:
    if gain is None:
        return None
    return [
        {"share": share, "n": int(105_115 * share),
         "gain": gain * share**-0.55 + rng.normal(0, 1.2 / math.sqrt(share)),
         "accuracy": 0.5 + 0.0026 * gain * share**-0.25 + rng.normal(0, 0.0016 / math.sqrt(share))}
        for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    ]  # fmt: skip


def _path(rng: np.random.Generator, gain: float | None) -> list[dict[str, Any]] | None:
    if gain is None:
        return None
    days = np.linspace(3, _DAYS, 120)
    error = 1.8 * math.sqrt(_DAYS)
    noise = np.cumsum(rng.normal(0, 1, 120)) * math.sqrt(_DAYS / 120) * 1.8 * math.sqrt(_DAYS)
    mean = gain + noise / days / 1.6
    wide = 4.2 * error / np.sqrt(days) * (1 + 8 / days)
    log_e = np.cumsum(rng.normal(0.04 * gain - 0.04, 0.35, 120))
    return [
        {"at": iso(int(_START + d * _DAY)), "gain": m, "lo": m - w, "hi": m + w, "log_e": e}
        for d, m, w, e in zip(days, mean, wide, log_e, strict=True)
    ]


def _comparisons(rng: np.random.Generator, everybody: dict[str, Any]) -> list[dict[str, Any]]:
    mine, out = everybody["consensus"], []
    kinds = (("brier", "brier", 1e4, 1.7), ("pinball", "pinball_bps", 1.0, 0.008),
             ("risk_brier", "risk_brier", 1e4, 1.1))  # fmt: skip
    for name in (*BASELINES, "baseline"):
        for score, key, unit, error in kinds:
            theirs = everybody[name][key]
            if theirs is None:
                continue
            difference = (theirs - mine[key]) * unit + rng.normal(0, error * 0.3)
            out.append({
                "a": "consensus", "b": name, "score": score, "n": 105_115,
                "difference": difference, "se": error, "dm_t": difference / error,
                "lo": difference - 2 * error, "hi": difference + 2 * error,
                "e_value": math.exp(min(0.3 * (difference / error) ** 2, 600.0)),
                "cs_lo": difference - 4 * error, "cs_hi": difference + 4 * error,
            })  # fmt: skip
    return out


def _controls() -> dict[str, Any]:
    return {
        "shuffled_labels": {"ok": True, "expected": "mean gain ≤ 0 over 20 shuffles by days",
                            "figures": {"mean": -0.61, "max": 0.4, "shuffles": 20}, "note": ""},
        "random_walk": {"ok": True, "expected": "no edge in a market without one",
                        "figures": {"gain": -0.3, "dm_t": -1.1}, "note": "seed 7, 105 120 bars"},
        "planted_edge": {"ok": True, "expected": "the planted edge is found",
                         "figures": {"gain": 41.0, "dm_t": 12.4}, "note": ""},
        "leak": {"ok": False, "expected": "a shift of one bar into the future gives AUC above .65",
                 "figures": {"auc": 0.61}, "note": "The scale was trained on shifted bars too."},
        "delay": {"ok": None, "expected": "one bar of delay loses only part of the skill",
                  "figures": {}, "note": "No skill to lose."},
    }  # fmt: skip


def _drift(rng: np.random.Generator) -> dict[str, Any]:
    names = [f"{kind}_{w}" for kind in ("ret", "vol", "rsi", "range", "volume") for w in (3, 12, 48,
             288, 2016)]  # fmt: skip
    psi = np.sort(rng.exponential(0.06, len(names)))[::-1]
    walk = np.maximum.accumulate(np.abs(np.cumsum(rng.normal(0, 0.3, 100))))
    return {
        "features": [{"name": name, "psi": p, "ks": p / 2, "alarm": bool(p > 0.2)}
                     for name, p in zip(names, psi, strict=True)],
        "cusum": {"alarms": [], "threshold": 8.0,
                  "path": [{"at": iso(int(_START + 3.6 * k * _DAY)), "value": v}
                           for k, v in enumerate(walk)]},
        "coverage": {"alarms": [{"at": iso(_START + 200 * _DAY), "coverage": 0.742}]},
    }  # fmt: skip


def _weights(rng: np.random.Generator) -> list[dict[str, Any]]:
    pull = np.cumsum(rng.normal(0, 0.12, (120, len(AGENTS))), axis=0)
    pull[:, 2] += np.linspace(0, 2.2, 120)
    share = np.exp(pull) / np.exp(pull).sum(axis=1, keepdims=True)
    return [
        {"at": iso(int(_START + 3.04 * k * _DAY)), **dict(zip(AGENTS, row, strict=True))}
        for k, row in enumerate(share)
    ]


def _paths(rng: np.random.Generator, gain: float) -> dict[str, Any]:
    paths = list(rng.normal(gain, 1.4, 9))
    return {"paths": paths, "mean": float(np.mean(paths)), "sd": float(np.std(paths, ddof=1))}
