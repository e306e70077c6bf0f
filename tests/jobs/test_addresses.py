"""Malformed addresses are reported with the setting, the value without its password, and a remedy."""

from __future__ import annotations

import itertools
import re

import pytest

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.settings import from_env
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.sql.drivers import read_url

SECRET = "s3cr3t"
HOSTS = [
    *(
        "",
        " ",
        "h h",
        "[::1",
        "::1]",
        "[zz]",
        "a..b",
        "-",
        "\u2100",
        "a" * 80,
        "\x1b[31m",
        "\u202ehost",
        "h\n",
    ),
    *("h:", "h:0", "h:x", "h:70000", "h:-1", "h:6379:1", "h\\x", "<h>", "h|x", "{h}", "^", "%zz", "*"),
]
USERS = ["", f":{SECRET}@", f"u:{SECRET}@", f"u:{SECRET}@x@"]
USERS += [f"u:{SECRET}#x@", f":{SECRET}/x@", f"u:{SECRET}?x@"]
TAILS = ["", "/", "/x", "/0?foo=1", "#x"]


def refused(setting: str, url: str) -> str:
    """Return the message with which a setting is refused; empty if it is accepted."""
    try:
        settings = from_env({setting: url})
        if setting == "KERASWEEP_STORE_URL":
            read_url(settings.store)
    except InputError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize(
    "setting", ["KERASWEEP_BROKER_URL", "KERASWEEP_STORE_URL", "KERASWEEP_ARTIFACTS_URL"]
)
def test_hundreds_of_malformed_urls_are_wrong_input_without_a_password(setting: str) -> None:
    scheme = {"KERASWEEP_BROKER_URL": "redis", "KERASWEEP_STORE_URL": "postgresql"}.get(setting, "s3")
    tried = 0
    for user, host, tail in itertools.product(USERS, HOSTS, TAILS):
        message = refused(setting, f"{scheme}://{user}{host}{tail}")
        tried += bool(message)
        assert not message or setting in message
        assert SECRET not in message, message
        assert "\x1b" not in message
    assert tried > 300


@pytest.mark.parametrize(
    "url",
    [
        "amqp://x",
        "ftp://x",
        "redis:",
        "redis:/h",
        "localhost:6379",
        " redis://h",
        "redis://h/x",
        "redis://h/0?foo=1",
    ],
)
def test_other_brokers_are_refused(url: str) -> None:
    message = refused("KERASWEEP_BROKER_URL", url)
    assert re.search(r"the broker .* must be redis://.*, got .*: .*\nWrite it like redis://", message), (
        message
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6379/0",
        "rediss://u:p%40%23%2F@h/1?ssl_cert_reqs=required",
        "redis://[::1]:6379",
        "redis://h\u00f6st/0",
        "redis+socket:///run/a%20b.sock?virtual_host=0",
        "redis://:a:b@h",
    ],
)
def test_valid_brokers_are_accepted(url: str) -> None:
    assert from_env({"KERASWEEP_BROKER_URL": url}).broker_url == url


@pytest.mark.parametrize(
    "path", ["/a b/%20/what?/x#y/\u00fc/store.db", "/a?b=c/store.db", "/[x]/*.db", "/\u5b57/s"]
)
def test_a_path_to_a_sqlite_file_may_hold_anything(path: str) -> None:
    assert read_url(f"sqlite:///{path}").database == path


@pytest.mark.parametrize("name", ["a b", "%20", "what?", "x#y", "\u00fc\u5b57", "a::b", "[x]*", "{a}"])
def test_a_folder_of_artifacts_may_be_called_anything(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.mktemp("place") / name
    artifacts = Artifacts(str(folder))
    sha256, _ = artifacts.put("sweeps/a/b", b"x")
    assert (folder / "sweeps" / "a" / "b").read_bytes() == b"x"
    assert artifacts.get("sweeps/a/b", sha256) == b"x"
    assert artifacts.keys("sweeps") == ["sweeps/a/b"]
    assert artifacts.delete_below("sweeps/a") > 0
    assert artifacts.keys() == []


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///x", "s3:/x", "gs://", "http://h/x", "memory://x", "s3://a b"]
)
def test_other_places_for_artifacts_are_refused(url: str) -> None:
    message = refused("KERASWEEP_ARTIFACTS_URL", url)
    assert "the artifacts (--artifacts, KERASWEEP_ARTIFACTS_URL) must be" in message
    assert "Write it like" in message


def test_what_may_be_a_password_in_the_wrong_place_is_not_shown() -> None:
    assert SECRET not in refused("KERASWEEP_BROKER_URL", SECRET)
    assert SECRET not in refused("KERASWEEP_STORE_URL", SECRET)


def test_an_unknown_kind_of_place_is_refused_when_opened() -> None:
    with pytest.raises(InputError, match="got 'foo://x'"):
        Artifacts("foo://x")


def test_an_unknown_option_of_postgresql_is_refused() -> None:
    with pytest.raises(InputError, match='invalid connection option "foo"'):
        read_url(f"postgresql://u:{SECRET}@h/db?foo=1")
