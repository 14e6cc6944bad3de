"""The rows that stand beside the agents in every table: what one gets without a council.

half               p = ½
base_rate          how often the training period went up, and how often it fell or rose far
rsi_logistic       logistic regression on RSI(14) alone
logistic_54        logistic regression on the 54 features of the reference
trailing           quantiles of the last 8 640 observed horizon returns (30 days)
ewma               EWMA volatility (λ = .94) × residual quantiles; risks are logistic in ln σ̂
garch              the same with GARCH(1,1)-t
har                the same with HAR and intraday season
har_ranges         the same with Parkinson ranges among the regressors
boosting           boosted trees on the features: direction, correction of σ̂, risks
boosting_quantile  boosted trees for .1, .5 and .9 of y/σ̂
blend              the mean of the best three or four of these, p shrunk towards ½
blend_rescaled     the same, its width following the last 90 days' coverage

Definitions as in the project's reference table. Those that learn need parameters: what ships is of
BTC/USDT spot, five-minute bars before 2025; for anything else they are fitted anew or silent.
"""

from sim.baselines.contract import Inputs, Known
from sim.baselines.fitting import NAMES, fit_all, forecast_all, refit_forward
from sim.baselines.logistic import LogisticModel, fit_logistic_54
from sim.baselines.naive import trailing_quantiles
from sim.baselines.shipping import (
    FeatureReference,
    Fitted,
    baselines,
    feature_reference,
    shipped,
)

__all__ = [
    "NAMES",
    "FeatureReference",
    "Fitted",
    "Inputs",
    "Known",
    "LogisticModel",
    "baselines",
    "feature_reference",
    "fit_all",
    "fit_logistic_54",
    "forecast_all",
    "refit_forward",
    "shipped",
    "trailing_quantiles",
]
