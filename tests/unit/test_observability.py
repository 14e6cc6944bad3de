import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.promql import DASHBOARDS, RULES, expressions, metric_names, rules

CASES = Path(__file__).with_name("prometheus_rules.yml")
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


@pytest.mark.parametrize("where", expressions())
def test_expressions_when_parsed_then_they_read_metrics_of_ours_or_of_ray(where):
    names = metric_names(expressions()[where])
    assert names
    for name in names:
        assert name in RECORDED | {"up"} or name.startswith(("conclave_", "ray_serve_"))


def test_metric_names_when_an_expression_is_nested_then_none_is_missed():
    nested = "topk(3, sum(rate(a[5m])) by (x) / on() max(b)) > 1 and histogram_quantile(0.5, c)"
    assert metric_names(nested) == {"a", "b", "c"}


def test_alerts_when_one_fires_then_a_person_learns_what_and_what_to_do():
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) >= 10
    for rule in alerts:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_dashboard_when_loaded_then_panels_fit_and_have_names(path):
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        assert panel["title"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}  # fmt: skip
        assert not cells & taken
        taken |= cells


def test_rules_when_promtool_plays_the_cases_then_each_alert_fires_when_it_must():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    for words in (["check", "rules", str(RULES)], ["test", "rules", str(CASES)]):
        done = subprocess.run([promtool, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_when_the_cases_are_played_then_every_alert_has_one():
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert {name for name in alerts if name in CASES.read_text()} == alerts
