"""LightGBM with the face of scikit-learn's histogram boosting, so that one ``boost`` fits either.

The library is an extra: it is needed to fit, never to serve what was fitted.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_OBJECTIVES = {"log_loss": "binary", "gamma": "gamma"}
_NAMES = {
    "learning_rate": "learning_rate",
    "max_leaf_nodes": "num_leaves",
    "min_samples_leaf": "min_data_in_leaf",
    "l2_regularization": "lambda_l2",
    "max_bins": "max_bin",
    "max_features": "feature_fraction",  # drawn for each tree, by scikit-learn for each split
    "random_state": "seed",
}
_FIXED = {
    "bagging_fraction": 0.7, "bagging_freq": 1,  # as in the reference; scikit-learn takes all rows
    "deterministic": True, "force_row_wise": True, "num_threads": 1,  # equal seeds, equal bytes
    "verbosity": -1,
}  # fmt: skip


class LightGbm:
    """A boosted model of one output.

    Parameters
    ----------
    loss : ``log_loss`` (targets 0 and 1, raw score logit p) or ``gamma`` (targets > 0, log mean).
    max_iter, early_stopping, n_iter_no_change, tol, arguments : as scikit-learn names them.

    Attributes
    ----------
    booster : LightGBM's own, once fitted.
    validation_score_ : minus the loss on the validation rows before the first round (unknown
        here, so −∞) and after each.
    """

    booster: Any
    validation_score_: Floats

    def __init__(
        self, loss: str, *, max_iter: int, early_stopping: bool, n_iter_no_change: int = 0,
        tol: float = 0.0, **arguments: Any,
    ) -> None:  # fmt: skip
        told = {_NAMES[name]: value for name, value in arguments.items()}
        self._params = {**_FIXED, "objective": _OBJECTIVES[loss], **told}
        self._rounds, self._early, self._tol = max_iter, early_stopping, tol
        self._patience = n_iter_no_change

    def fit(
        self, x: Floats, y: Floats, X_val: Floats | None = None, y_val: Floats | None = None
    ) -> Self:
        """Fit on x (n, k), y (n,); with early stopping by the loss on the validation rows."""
        import lightgbm

        rows = lightgbm.Dataset(x, y, params=self._params)
        if not self._early:
            self.booster = lightgbm.train(self._params, rows, self._rounds)
            return self
        losses: dict[str, dict[str, list[float]]] = {}
        calls = [
            lightgbm.early_stopping(self._patience, verbose=False, min_delta=self._tol),
            lightgbm.record_evaluation(losses),
        ]
        held = lightgbm.Dataset(X_val, y_val, reference=rows)
        self.booster = lightgbm.train(self._params, rows, self._rounds, [held], callbacks=calls)
        [by_round] = next(iter(losses.values())).values()
        self.validation_score_ = np.array([-np.inf, *(-loss for loss in by_round)])
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Return raw scores, (n,)."""
        return np.asarray(self.booster.predict(x, raw_score=True))

    def predict(self, x: Floats) -> Floats:
        """Return p for ``log_loss``, the mean for ``gamma``, (n,)."""
        return np.asarray(self.booster.predict(x))
