"""The pages: each reads what its template shows through the shelf."""

from __future__ import annotations

import csv
import gzip
import io
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.templating import Jinja2Templates

from kerasweep.jobs.errors import InputError, NotFound
from kerasweep.jobs.printable import as_cell
from kerasweep.jobs.store.overview import LOGS, PROCESSES
from kerasweep.jobs.trial import SweepState, TrialState
from kerasweep.jobs.variants import Variant
from kerasweep.scheduler.client import report, wording
from kerasweep.scheduler.client.forecast import Times
from kerasweep.scheduler.client.objects import Status, Trial
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.evidence.comparison import Comparison
from kerasweep.scheduler.web import figures, series
from kerasweep.scheduler.web.gate import is_loopback
from kerasweep.scheduler.web.layers import layers_of
from kerasweep.scheduler.web.listing import Excerpt, Selection, Wanted, variants_best_first
from kerasweep.scheduler.web.pulse import events_of
from kerasweep.scheduler.web.roster import Rosters
from kerasweep.scheduler.web.shelf import Cache, Shelf
from kerasweep.scheduler.web.timeline import Timeline, timeline

_JOURNAL, _LOG_LINES = 20, 400
_CHUNK = 1 << 18
#: How many pages of sweeps are kept as they were drawn, and their charts, which do not change with the order.
_MOST_DRAWN, _MOST_CHARTS = 64, 32
#: How many sweeps are read before anybody asks for them: the newest.
_MOST_AHEAD = 3
#: How many threads draw at a time; more would only keep each other, and those who answer, waiting.
_DRAWERS = 2
#: How often it is measured how long a sweep trains, in seconds.
_TIMES_S = 4.0


@dataclass(frozen=True)
class Charts:
    """The drawings for a selection of a sweep's trials."""

    parallel: figures.Parallel
    slices: Sequence[figures.Slice]
    timeline: Timeline


@dataclass(frozen=True)
class SweepRow:
    """A sweep in the list.

    Args:
        status: its status.
        workers: the number of workers that train it.
    """

    status: Status
    workers: int

    @property
    def hourly(self) -> float | None:
        """The number of its trials that end per hour."""
        done, elapsed_s = self.status.ended, self.status.elapsed_s
        return 3600 * done / elapsed_s if done and elapsed_s else None


_ORDERS: Mapping[str, Callable[[SweepRow], Any]] = {
    "name": lambda row: row.status.name,
    "state": lambda row: list(SweepState).index(row.status.state),
    "progress": lambda row: row.status.ended / max(1, row.status.max_trials),
    "workers": lambda row: -row.workers,
}


class Pages:
    """Answers read-only requests.

    Args:
        shelf: reads the records.
        rosters: reads the trials.
        templates: the templates.
        read_only: whether the pages offer no changes.
    """

    def __init__(
        self, shelf: Shelf, rosters: Rosters, templates: Jinja2Templates, *, read_only: bool
    ) -> None:
        self._shelf, self._rosters = shelf, rosters
        self._templates, self._read_only = templates, read_only
        self._drawers = threading.Semaphore(_DRAWERS)
        self._times, self._packed = Cache(_MOST_DRAWN), Cache(_MOST_DRAWN)
        self._drawn, self._charts, self._selections = (
            Cache(_MOST_DRAWN),
            Cache(_MOST_CHARTS),
            Cache(_MOST_CHARTS),
        )

    def prepare(self) -> Iterator[None]:
        """Compile the templates and read the newest sweeps, step by step; then the first viewer need not wait
        for it.
        """
        for name in self._templates.env.list_templates():
            self._templates.env.get_template(name)
        yield
        for sweep in self._newest(_MOST_DRAWN):
            self._row(sweep)
            yield
        for sweep in self._newest(_MOST_AHEAD):
            self._charts_of(sweep, Wanted())
            yield

    def prepare_importances(self) -> Iterator[None]:
        """Load what computes importances, and compute the newest sweep's."""
        for sweep in self._newest(1):
            self._importances_of(sweep, Wanted())
            yield

    def _newest(self, most: int) -> Iterator[Sweep]:
        for sweep in self._shelf.client.sweeps()[:most]:
            yield self._shelf.sweep(sweep.id)

    def draw(self, request: Request, template: str, /, code: int = 200, **facts: Any) -> Response:
        """Return a page."""
        gate, session = request.state.gate, request.state.session
        common = {"read_only": self._read_only, "token": gate.token(session), "words": wording}
        common["guarded"] = gate.guarded
        return self._templates.TemplateResponse(request, template, {**common, **facts}, status_code=code)

    def home(self, request: Request) -> Response:
        """Redirect to the sweeps."""
        return RedirectResponse("/sweeps", 303)

    def sweeps(self, request: Request) -> Response:
        """List the sweeps: filtered by name and state, sorted."""
        request.state.events = events_of(self._shelf, [])
        text, state = request.query_params.get("q", "").strip().lower(), request.query_params.get("state", "")
        if state and state not in list(SweepState):
            raise InputError(f"a state is one of {', '.join(SweepState)}, got {state[:40]!r}")
        sort = request.query_params.get("sort", "newest")
        found = self._shelf.client.sweeps([SweepState(state)] if state else None)
        named = [one for one in found if text in one.name.lower() or one.id.startswith(text)]
        rows = [self._row(one) for one in named]
        if sort in _ORDERS:
            rows.sort(key=_ORDERS[sort])
        asked = {
            "q": text,
            "state": state,
            "sort": sort,
            "states": list(SweepState),
            "orders": ["newest", *_ORDERS],
        }
        return self.draw(request, "sweeps.html", rows=rows, asked=asked, workers=self._shelf.client.workers())

    def sweep(self, request: Request) -> Response:
        """Show one sweep; drawn once for all who ask the same before anything has changed."""
        sweep = self._sweep(request)
        key, marks = (sweep.id, "", request.url.query), (sweep.id, PROCESSES)
        return self._once(request, key, marks, lambda: self._draw_sweep(request, sweep))

    def _once(
        self, request: Request, key: Hashable, marks: Sequence[str], draw: Callable[[], Response]
    ) -> Response:
        """Return a page as it was drawn for its mark, compressed for those who take that from elsewhere."""

        def drawn() -> bytes:
            with self._drawers:
                return bytes(draw().body)

        request.state.events = events_of(self._shelf, marks)
        plain = self._drawn.get(key, lambda: self._shelf.mark(*marks), drawn)
        headers = {"Vary": "Accept-Encoding"}
        far = request.client is None or not is_loopback(request.client.host)
        if not far or "gzip" not in request.headers.get("accept-encoding", ""):
            return HTMLResponse(plain, headers=headers)
        packed = self._packed.get(key, lambda: plain, lambda: gzip.compress(plain, 1))
        return HTMLResponse(packed, headers={**headers, "Content-Encoding": "gzip"})

    def _draw_sweep(self, request: Request, sweep: Sweep) -> Response:
        names = self._names(sweep)
        wanted = Wanted.of(request.query_params, list(names))
        roster, selection = self._rosters.of(sweep), self._selected(sweep, wanted)
        variants = wanted.ordered_variants(self._variants_of(sweep, selection))
        trials = wanted.ordered(selection, sweep.spec.metric.goal)
        return self.draw(
            request,
            "sweep.html",
            sweep=sweep,
            status=self._status(sweep),
            wanted=wanted,
            names=names,
            ranked=len(selection.framed),
            busy=len({one.worker for one in roster.trials if one.state is TrialState.RUNNING}),
            variants=Excerpt.of(variants, wanted.variants),
            trials=Excerpt.of(trials, wanted.page),
            states=list(TrialState),
            charts=self._charts_of(sweep, wanted),
            journal=self._shelf.kept(
                sweep.id, "journal", lambda: sweep.client.records.newest_journal(sweep.id, _JOURNAL)
            ),
        )

    def _variants_of(self, sweep: Sweep, selection: Selection) -> list[Variant]:
        """Return the variants of the selected trials, best first; none without repeats."""
        if sweep.spec.times == 1:
            return []

        def ordered() -> list[Variant]:
            return variants_best_first(sweep.spec, self._rosters.of(sweep).trials)

        chosen = {one.number // sweep.spec.times for one in selection.chosen}
        return [one for one in self._shelf.kept(sweep.id, "variants", ordered) if one.number in chosen]

    def _charts_of(self, sweep: Sweep, wanted: Wanted) -> Charts:
        def drawn() -> Charts:
            names, base = self._names(sweep), f"/sweeps/{sweep.id}"
            roster, selection = self._rosters.of(sweep), self._selected(sweep, wanted)
            return Charts(
                figures.parallel(selection.framed, names, sweep.spec.metric, wanted, base),
                figures.slices(selection.ranked, names, base),
                timeline(sweep, roster, selection.chosen, base),
            )

        return self._charts.get((sweep.id, wanted.cut), lambda: self._shelf.mark(sweep.id), drawn)

    def curves(self, request: Request) -> Response:
        """Return the curves of the best trials requested."""
        sweep = self._sweep(request)
        wanted = Wanted.of(request.query_params, list(self._names(sweep)))
        selection = self._selected(sweep, wanted)
        if sweep.spec.times == 1:
            return JSONResponse(series.sweep_curves(self._shelf, sweep, selection.best(wanted.best)))
        variants, trials = self._variants_of(sweep, selection), self._rosters.of(sweep).trials
        return JSONResponse(series.variant_curves(self._shelf, sweep, variants, trials, wanted.best))

    def importances(self, request: Request) -> Response:
        """Show how much each parameter explains."""
        sweep = self._sweep(request)
        wanted = Wanted.of(request.query_params, list(self._names(sweep)))
        return self.draw(request, "importances.html", sweep=sweep, found=self._importances_of(sweep, wanted))

    def _importances_of(self, sweep: Sweep, wanted: Wanted) -> dict[str, Any]:
        def weighed() -> dict[str, Any]:
            trials = self._rosters.of(sweep).trials
            return figures.importances(sweep, self._selected(sweep, wanted).compared(sweep.spec, trials))

        return self._shelf.kept(sweep.id, ("importances", wanted.cut), weighed)

    def table(self, request: Request) -> Response:
        """Return the requested trials as CSV."""
        sweep = self._sweep(request)
        wanted = Wanted.of(request.query_params, list(self._names(sweep)))
        chosen = wanted.ordered(self._selected(sweep, wanted), sweep.spec.metric.goal)
        headers = {"Content-Disposition": f'attachment; filename="{sweep.id}-trials.csv"'}
        return Response(_csv(chosen), media_type="text/csv; charset=utf-8", headers=headers)

    def trial(self, request: Request) -> Response:
        """Show one trial; drawn once for all who ask before anything has changed."""
        sweep = self._sweep(request)
        key, marks = (sweep.id, request.url.path, request.url.query), (sweep.id, LOGS)
        return self._once(request, key, marks, lambda: self._draw_trial(request, sweep))

    def _draw_trial(self, request: Request, sweep: Sweep) -> Response:
        number = int(request.path_params["trial"])
        records, trial = sweep.client.records, sweep.trial(number)
        lines = records.logs(sweep.id, number)
        return self.draw(
            request,
            "trial.html",
            sweep=sweep,
            trial=trial,
            planned=sweep.planned_epochs(trial.params),
            attempts=records.attempts(sweep.id, number),
            resumed=records.resumed_after(sweep.id, [number]),
            lines=lines[-_LOG_LINES:],
            older=max(0, len(lines) - _LOG_LINES),
            files=records.artifacts(sweep.id, number).get(number, []),
            journal=records.newest_journal(sweep.id, _JOURNAL, number),
            handle=sweep.handle,
        )

    def trial_curves(self, request: Request) -> Response:
        """Return a trial's curves."""
        sweep = self._sweep(request)
        trial = sweep.trial(int(request.path_params["trial"]))
        return JSONResponse(series.trial_curves(self._shelf, sweep, trial))

    def model(self, request: Request) -> Response:
        """Return a trial's model file, checked against its digest."""
        sweep = self._sweep(request)
        ref = sweep.model_of(sweep.chosen(int(request.path_params["trial"])))
        if ref is None:
            raise NotFound("a trial must have a recorded model to be downloaded, and this one has none")
        file = "model.weights.h5" if ref.key.endswith(".h5") else "model.keras"
        name = f"{sweep.id}-{request.path_params['trial']}-{file}"
        data = sweep.client.artifacts.get(ref.key, ref.sha256)
        chunks = (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(len(data))}
        return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)

    def compare(self, request: Request) -> Response:
        """Show two sweeps side by side."""
        asked = [request.query_params.get(name, "") for name in ("a", "b")]
        found = [self._shelf.sweep(name) for name in asked if name]
        shown = self._compared(*found) if len(found) == len(asked) else None
        every = self._shelf.client.sweeps()
        return self.draw(request, "compare.html", sides=found, shown=shown, asked=asked, all=every)

    def _compared(self, one: Sweep, other: Sweep) -> Comparison:
        what = ("compare", other.id, self._shelf.marks().get(other.id))
        return self._shelf.kept(one.id, what, lambda: one.compare(other))

    def workers(self, request: Request) -> Response:
        """Show the workers: what they offer, what they are doing, and which are set aside."""
        client, request.state.events = self._shelf.client, events_of(self._shelf, [])
        aside = {one.worker: one for one in client.quarantines()}
        does = self._shelf.kept(PROCESSES, "does", self._running)
        workers, schedulers = client.workers(), client.schedulers()
        return self.draw(
            request, "workers.html", aside=aside, does=does, workers=workers, schedulers=schedulers
        )

    def _running(self) -> dict[str, list[tuple[Sweep, Trial]]]:
        """Return what is running on each worker."""
        found: dict[str, list[tuple[Sweep, Trial]]] = {}
        for sweep in self._shelf.client.sweeps([SweepState.RUNNING, SweepState.PAUSED]):
            for trial in sweep.trial_list([TrialState.RUNNING]):
                found.setdefault(trial.worker or "", []).append((sweep, trial))
        return found

    def layers(self, request: Request) -> Response:
        """Show a trial's layers, from its model file."""
        sweep, number = self._sweep(request), int(request.path_params["trial"])
        trial = sweep.chosen(number)
        found = self._shelf.kept(
            f"{sweep.id}/ended", ("layers", number, trial.digest), lambda: layers_of(sweep, trial)
        )
        return self.draw(request, "layers.html", found=found, handle=sweep.handle, trial=number)

    def _status(self, sweep: Sweep) -> Status:
        """Return the status of a sweep, which also follows the live processes."""
        alive = self._shelf.marks().get(PROCESSES, "")
        return self._shelf.kept(
            sweep.id, ("status", alive), lambda: sweep.status(times=self._times_of(sweep))
        )

    def _times_of(self, sweep: Sweep) -> Times:
        """Return how long a sweep trains; with many trials that is not measured at each change."""
        return self._times.get(
            sweep.id, lambda: (sweep.refresh().record.state, time.monotonic() // _TIMES_S), sweep.times
        )

    def _selected(self, sweep: Sweep, wanted: Wanted) -> Selection:
        """Return the trials that a query selects, in whatever order it asks for them."""
        return self._selections.get(
            (sweep.id, wanted.cut),
            lambda: self._shelf.mark(sweep.id),
            lambda: wanted.select(self._rosters.of(sweep)),
        )

    def _sweep(self, request: Request) -> Sweep:
        return self._shelf.sweep(request.path_params["sweep"])

    def _names(self, sweep: Sweep) -> dict[str, str]:
        """Return the parameters that vary, with their short names."""
        return self._shelf.kept(sweep.id, "names", lambda: wording.short_names(sweep.spec.space().varied))

    def _row(self, sweep: Sweep) -> SweepRow:
        def read() -> SweepRow:
            status = self._status(sweep)
            running = sweep.trial_list([TrialState.RUNNING]) if status.trials[TrialState.RUNNING] else []
            return SweepRow(status, len({one.worker for one in running}))

        return self._shelf.kept(sweep.id, "row", read)


def _csv(trials: Sequence[Trial]) -> str:
    rows = [report.flat(report.trial_document(trial)) for trial in trials]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(map(_cell, columns))
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return out.getvalue()


def _cell(given: Any) -> str:
    """Return a value for CSV; text that a spreadsheet would run as a formula is quoted."""
    text = "" if given is None else wording.value(given) if isinstance(given, dict | list) else str(given)
    return as_cell(text)
