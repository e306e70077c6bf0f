"""What viewers are told of changes: also of those between the reading of a page and its stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from audience import ask, events_of
from staged import Stage

from kerasweep.jobs.store.overview import LOGS, PROCESSES
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.web import listening
from kerasweep.scheduler.web.gate import Access
from kerasweep.scheduler.web.pulse import Pulse
from kerasweep.scheduler.web.shelf import Shelf, digest_of


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / ".kerasweep")
    yield stage
    stage.records.close()


def beat(stage: Stage, watch: Callable[[Pulse, Callable[[], str]], Awaitable[None]], sweep: str) -> None:
    """Run `watch` with a beating pulse and with what returns the digest of the sweep's mark now."""

    async def run(client: Client) -> None:
        pulse = Pulse(Shelf(client))
        async with pulse.beating(), asyncio.timeout(60):
            await watch(pulse, lambda: digest_of(client.records.marks(), [sweep]))

    with Client(home=str(stage.home)) as client:
        asyncio.run(run(client))


def test_a_viewer_is_told_of_a_change_before_its_stream_began(stage: Stage) -> None:
    sweep = stage.sweep()

    async def watch(pulse: Pulse, now: Callable[[], str]) -> None:
        since = now()
        stage.complete(sweep, 0)
        stream = pulse.stream([sweep], since)
        assert await anext(stream) == f"event: changed\ndata: \nid: {now()}\n\n"
        await stream.aclose()

    beat(stage, watch, sweep)


def test_a_viewer_who_has_read_the_newest_is_told_of_the_next_change_alone(stage: Stage) -> None:
    sweep = stage.sweep()

    async def watch(pulse: Pulse, now: Callable[[], str]) -> None:
        stage.complete(sweep, 0)  # the pulse has not looked at it yet
        newest, older = pulse.stream([sweep], now()), pulse.stream([sweep], "older")
        told = asyncio.create_task(anext(newest))
        assert await anext(older) == f"event: changed\ndata: \nid: {now()}\n\n"
        assert not told.done()
        stage.complete(sweep, 1)
        assert await told == f"event: changed\ndata: \nid: {now()}\n\n"
        for stream in (newest, older):
            await stream.aclose()

    beat(stage, watch, sweep)


@pytest.mark.parametrize(
    ("path", "keys"),
    [("/sweeps", []), ("/workers", []), ("/sweeps/{}", [PROCESSES]), ("/sweeps/{}/trials/0", [LOGS])],
)
def test_a_page_follows_from_what_was_read_for_it(stage: Stage, path: str, keys: list[str]) -> None:
    sweep = stage.sweep()
    port = listening.free_port(0)
    with Client(home=str(stage.home)) as client, listening.beside(client, Access(port=port)):
        _, page = ask(port, path.format(sweep))
        since = digest_of(client.records.marks(), [sweep, *keys] if keys else [])
    assert events_of(page).endswith(f"since={since}")
    assert f"of={sweep}" in events_of(page) or not keys
