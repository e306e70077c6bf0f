"""Settings from the environment, overridden by flags, and what is refused."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.settings import Settings, from_env, to_env


def test_all_three_places_lie_under_home_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = from_env({})
    assert settings == Settings()
    assert settings.embedded_broker
    assert settings.store == f"sqlite:///{tmp_path}/.kerasweep/store.db"
    assert settings.artifacts == f"{tmp_path}/.kerasweep/artifacts"


def test_the_environment_is_read_and_flags_win() -> None:
    environ = {
        "KERASWEEP_BROKER_URL": "redis://a",
        "KERASWEEP_LEASE_S": "12.5",
        "KERASWEEP_STORE_URL": "",
        "LEASE_S": "1",
    }
    settings = from_env(environ, broker_url="redis://b", artifacts_url=None)
    assert (settings.broker_url, settings.lease_s, settings.store_url) == ("redis://b", 12.5, "")
    assert (settings.artifacts_url, settings.embedded_broker) == ("", False)
    assert from_env(environ).broker_url == "redis://a"


def test_another_process_reads_the_same() -> None:
    changed = {
        field.name: 1.5 if isinstance(field.default, float) else f"x-{field.name}"
        for field in fields(Settings)
    }
    changed |= {"broker_url": "redis://x", "store_url": "sqlite:///x"}
    settings = replace(Settings(), **changed)  # type: ignore[arg-type]
    assert from_env(to_env(settings)) == settings
    assert from_env(to_env(Settings())) == Settings()


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf", "1e999", "30 s"])
def test_durations_are_numbers_above_zero(value: str) -> None:
    with pytest.raises(InputError, match="KERASWEEP_LEASE_S must be") as told:
        from_env({"KERASWEEP_LEASE_S": value})
    assert "unset it for the default" in str(told.value)


def test_times_fit_together() -> None:
    """An attempt must renew often, and stop by itself before its lease is given to another."""
    settings = Settings()
    assert settings.flush_s < settings.renew_s < settings.self_stop_s < settings.lease_s
    assert settings.reach_s < settings.self_stop_s


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("store", "unknown setting 'store'; did you mean 'store_url'? The settings are home, broker_url, "),
        ("brokerurl", "did you mean 'broker_url'?"),
        ("lease", "did you mean 'lease_s'?"),
        ("zzz", "unknown setting 'zzz'; The settings are"),
    ],
)
def test_an_unknown_setting_is_refused_by_name(flag: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        from_env({}, **{flag: "x"})
    assert said in str(refused.value)
