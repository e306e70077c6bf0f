"""The metrics for Prometheus; the Grafana dashboard uses no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from shown import Show

GRAFANA = Path(__file__).parents[2] / "docs" / "grafana.json"


def values_of(text: str) -> dict[tuple[str, ...], float]:
    """Return each sample's value by its name and its labels' values, in order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_counted_from_the_records(show: Show) -> None:
    answer = show.browser.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = values_of(answer.text)
    assert found["kerasweep_trials", "mlp", "completed", show.sweep] == 5
    assert found["kerasweep_trials_queued", "train.cpu"] == 1
    assert found["kerasweep_trials_running", "train.cpu"] == 1
    assert found["kerasweep_attempts_failed_total", "diverged"] == 1
    assert found["kerasweep_attempts_failed_total", "machine"] == 0
    assert found["kerasweep_lease_expiries_total",] == 0
    assert found["kerasweep_workers",] == 1
    assert found["kerasweep_slots",] == 8
    assert found["kerasweep_worker_steps_total", "worker-1@here"] == 640
    assert found["kerasweep_pack_width", "1", "worker-1@here"] == 3
    assert found["kerasweep_epochs_total",] == 27
    assert found["kerasweep_trial_wait_seconds_count", "train.cpu"] == 13
    assert 0 < found["kerasweep_trial_oldest_wait_seconds", "train.cpu"] < 3600
    assert found["kerasweep_schema_version",] >= 4
    assert found["kerasweep_sweeps", "running"] == 1


def test_the_grafana_dashboard_asks_for_metrics_that_are_there(show: Show) -> None:
    known = {name for name, *_ in values_of(show.browser.get("/metrics").text)}
    asked = {
        name
        for panel in json.loads(GRAFANA.read_text(encoding="utf-8"))["panels"]
        for target in panel["targets"]
        for name in re.findall(r"kerasweep_\w+", target["expr"])
    }
    assert asked
    assert asked <= known
