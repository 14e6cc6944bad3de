"""What a Chronos-Bolt of our own may read: returns, or prices as the official ones do."""

import numpy as np
import pytest
import torch

from agents.chronos_network import ChronosNetwork, describe
from agents.training import chronos
from agents.training.chronos import READS, build
from domain.errors import UsageError
from tests.neural_models import SOURCE, bars_seen, chronos_config, prices


@pytest.mark.parametrize("reads", READS)
def test_bolt_when_trained_on_either_then_it_is_served_as_it_was_trained(tmp_path, reads):
    config = chronos_config(reads=reads)
    torch.manual_seed(5)
    network = build(config).eval()
    network.save_pretrained(tmp_path)
    assert describe(tmp_path).reads_returns == (reads == "returns")
    closes = prices(3)
    past = torch.from_numpy(np.diff(np.log(closes)).astype(np.float32))
    with torch.no_grad():
        trained = READS[reads](network, past).numpy().transpose(0, 2, 1)
    served = ChronosNetwork(tmp_path).cumulative(closes, 15)
    assert served == pytest.approx(np.sort(trained[:, :15], axis=2), abs=2e-5)


def test_levels_when_the_oldest_returns_are_missing_then_so_are_their_prices():
    seen = []

    class Ear(torch.nn.Module):
        def forward(self, context):
            seen.append(context)
            return type("Said", (), {"quantile_preds": torch.ones(1, 9, 16)})

    past = torch.full((1, 200), 1e-3)
    past[0, :30] = torch.nan
    said = READS["levels"](Ear(), past)
    (context,) = seen
    assert context[0, :31].isnan().all()
    assert context[0, 31:].isfinite().all()
    assert context[0, -1] == 1.0
    assert context[0, -11] == pytest.approx(np.exp(-1e-2), rel=1e-5)
    assert (said == 0.0).all()


def test_train_when_it_is_to_read_something_else_then_usage_error(tmp_path):
    with pytest.raises(UsageError, match="returns, levels"):
        chronos.train([bars_seen()], tmp_path, SOURCE, config=chronos_config(reads="tea"))
