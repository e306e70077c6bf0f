"""Access to the page, and what may be changed from it."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator

import pytest
from shown import Browser, Show

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.trial import SweepState, TrialKey, TrialState
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.web import listening
from kerasweep.scheduler.web.gate import Access


@pytest.fixture(scope="module")
def locked(show: Show) -> Iterator[Browser]:
    """A read-only page with a password."""
    port = listening.free_port(0)
    with Client(home=str(show.stage.home)) as client:
        access = Access(port=port, password="open ü sesame", read_only=True)
        with listening.beside(client, access):
            yield Browser(port)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8265",
        "10.0.0.5",
        "localhost.evil.example",
        "",
        "[",
        "127.0.0.1/static/?",
        "localhost?",
        "localhost#",
        "evil.example@localhost",
        "localhost\\",
    ],
)
def test_a_foreign_host_is_refused(show: Show, host: str) -> None:
    assert show.browser.get("/sweeps", Host=host).status == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "[::1]:8265"])
def test_loopback_is_known_by_its_names(show: Show, host: str) -> None:
    assert show.browser.get("/sweeps", Host=host).status == 200


def test_where_others_reach_the_page_addresses_and_named_hosts_pass() -> None:
    access = Access(address="0.0.0.0", password="x", hosts=("lab.example",))
    assert all(map(access.knows, ("10.0.0.5:8265", "LAB.example", "[fe80::1]", "localhost")))
    assert not access.knows("evil.example")


def test_others_need_a_password() -> None:
    with pytest.raises(InputError, match="KERASWEEP_DASHBOARD_PASSWORD"):
        listening.expect_safe(Access(address="0.0.0.0"))
    listening.expect_safe(Access(address="::1"))


def test_nothing_is_changed_without_the_sessions_token(show: Show) -> None:
    browser, path = show.browser, f"/sweeps/{show.sweep}/ask/pause"
    assert browser.post(path, {}).status == 403
    token = browser.token(path)
    assert browser.post(path, {"token": "0" * 64}).status == 403
    assert browser.post(path, {"token": token}, Origin="http://evil.example").status == 403
    assert browser.post(path, {"token": token}, Origin="null").status == 403
    assert browser.post(path, {"token": token}, Sec_Fetch_Site="cross-site").status == 403
    assert browser.post(path, {"token": token}, Host="evil.example").status == 421
    assert show.browser.post(path, {"token": token}).status == 403, "of another session"
    assert browser.get(path).status == 200, "which only asks"
    assert browser.send("DELETE", f"/sweeps/{show.sweep}", "", {}).status == 405
    assert show.stage.records.sweep(show.sweep).state is SweepState.RUNNING


def test_a_sweep_is_paused_resumed_extended_and_a_trial_retried(show: Show) -> None:
    browser, base = show.browser, f"/sweeps/{show.sweep}"
    token = browser.token(f"{base}/ask/pause")
    done = browser.post(f"{base}/ask/pause", {"token": token}, Origin=f"http://127.0.0.1:{browser.port}")
    assert done.status == 303
    assert "paused" in browser.get(done.headers["location"]).text
    assert show.stage.records.sweep(show.sweep).state is SweepState.PAUSED
    assert browser.post(f"{base}/ask/resume", {"token": token}).status == 303
    ended = browser.post(f"{base}/ask/pause", {"token": token, "trial": "0"})
    assert ended.status == 400
    assert "only a trial that has not ended can be paused" in ended.text, "the words of the command line"
    assert browser.post(f"{base}/ask/extend", {"token": token, "number": "-1"}).status == 400
    assert browser.post(f"{base}/ask/rm", {"token": token}).status == 400, "it has not ended"
    point = {"param.learning_rate": "0.1", "param.units": "50"}
    twin = browser.post(f"{base}/ask/add", {"token": token, **point})
    assert twin.status == 400, "every point of the grid is there"
    assert "must" in twin.text or "missing" in twin.text or "a point is tried once" in twin.text
    assert browser.post(f"{base}/ask/retry", {"token": token, "trial": "5"}).status == 303
    assert show.stage.records.trial(TrialKey(show.sweep, 5)).state is TrialState.QUEUED
    assert browser.post(f"{base}/ask/cancel", {"token": token, "trial": "7"}).status == 303
    assert show.stage.records.trial(TrialKey(show.sweep, 7)).state is TrialState.CANCELLED


def test_a_sweep_that_has_ended_is_removed_for_good(show: Show) -> None:
    gone = show.stage.sweep(name="gone")
    show.stage.end(gone, SweepState.CANCELLED)
    browser, path = show.browser, f"/sweeps/{gone}/ask/rm"
    assert "for good" in browser.get(path).text
    assert browser.post(path, {"token": browser.token(path)}).status == 303
    assert browser.get(f"/sweeps/{gone}").status == 404


def test_a_password_is_asked_for(locked: Browser) -> None:
    for path in ("/sweeps", "/events", "/metrics"):
        assert locked.get(path).status == 401, path
    assert locked.get("/healthz").status == 200
    assert locked.get("/sweeps", Accept="text/html").headers["location"] == "/login"
    assert locked.post("/login", {"token": locked.token("/login"), "password": "x"}).status == 403
    basic = base64.b64encode("me:open ü sesame".encode()).decode()
    assert locked.get("/sweeps", Authorization=f"Basic {basic}").status == 200
    assert locked.get("/sweeps", Authorization="Basic !").status == 401
    assert locked.post("/login", {"token": "ü", "password": "open ü sesame"}).status == 403
    token, planted = locked.token("/login"), Browser(locked.port)
    planted.cookie = locked.cookie
    assert locked.post("/login", {"token": token, "password": "open ü sesame"}).status == 303
    page = locked.get("/sweeps")
    assert page.status == 200
    assert planted.get("/sweeps").status == 401, "a cookie from before the login opens nothing"
    leaving = Browser(locked.port)
    leaving.cookie = locked.cookie
    assert leaving.get("/sweeps").status == 200
    assert leaving.post("/logout", {"token": leaving.token("/login")}).status == 303
    assert leaving.get("/sweeps").status == 401
    assert locked.post("/login", {"token": locked.token("/login"), "password": "open ü sesame"}).status == 303
    assert "HttpOnly; SameSite=Strict" in str(Browser(locked.port).get("/healthz").headers)


def test_read_only_offers_and_does_nothing(show: Show, locked: Browser) -> None:
    assert "/ask/" not in locked.get(f"/sweeps/{show.sweep}").text
    answer = locked.post(f"/sweeps/{show.sweep}/ask/pause", {"token": "x"})
    assert answer.status == 403
    assert "--read-only" in answer.text


def test_large_things_are_refused(show: Show) -> None:
    assert show.browser.get("/sweeps?q=" + "x" * 9000).status == 414
    assert show.browser.post("/login", {"password": "x" * 70_000}).status == 413


def test_a_link_from_another_site_is_followed_from_here(show: Show) -> None:
    browser = show.browser
    first = browser.get("/sweeps", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert 'http-equiv="refresh"' in first.text
    assert "set-cookie" not in first.headers, "it would take the place of a session's"
    assert browser.get("/sweeps", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /sweeps HTTP/1.1\r\nHost: localhost\r\nX-",
        b"",
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n\r\ntoken=",
    ],
    ids=["head", "nothing", "body"],
)
def test_a_client_that_never_ends_its_request_is_dropped(
    show: Show, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(listening, "_PATIENCE_S", 0.2)
    with socket.create_connection(("127.0.0.1", show.port), timeout=20) as slow:
        slow.sendall(begun)
        while slow.recv(4096):
            pass
    assert show.browser.get("/healthz").status == 200
