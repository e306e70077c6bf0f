"""What a certifying sweep says about the winner of the sweep that it certifies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.trial import Failure, SweepState
from kerasweep.scheduler.client import notebook, wording

if TYPE_CHECKING:
    from kerasweep.jobs.store.models import SweepRecord
    from kerasweep.jobs.variants import Variant

#: The winner stands if it is the best with this probability, and does not if with less than 1 minus this.
_SURE = 0.95
#: Fewer seeds agree too often by luck to say so (`bootstrap.bounded`).
_FEWEST_SEEDS = math.ceil(-math.log2(1.0 - _SURE))


@dataclass(frozen=True)
class Contender:
    """One of the best variants of a sweep, trained again.

    Args:
        trial: its number in the sweep.
        value: its value there.
        params: its values, by name.
        seeds: the seeds of its new trials.
        values: their values; None for one that has none, or not yet.
        mean: the mean of these, of those that have one.
        std: their sample standard deviation; None for fewer than two.
        chance: the probability that it is the best, which n seeds tell no nearer to 0 or 1 than 1 / 2^n; None
            if nothing can be said.
        failures: why trials failed, with their seed.
    """

    trial: int
    value: float | None
    params: Mapping[str, Any]
    seeds: tuple[int, ...]
    values: tuple[float | None, ...]
    mean: float | None
    std: float | None
    chance: float | None
    failures: tuple[tuple[int, Failure], ...]


@dataclass(frozen=True, repr=False)
class Certificate:
    """Whether the winner of a sweep stands.

    Args:
        sweep: the id of the sweep that is certified.
        name: its name.
        by: the id of the sweep that certifies it.
        by_name: its name.
        state: the state of that sweep: the certificate is final once it is.
        metric: the metric's name.
        goal: minimize or maximize.
        contenders: the variants, the sweep's winner first.
        paired: the number of seeds under which all of them have a value: these are compared.
        stands: whether the winner is the best; None if that is open.
        verdict: the same in a sentence.
        notes: what to know about it: trials that failed, seeds left out, too few seeds.
    """

    sweep: str
    name: str
    by: str
    by_name: str
    state: SweepState
    metric: str
    goal: str
    contenders: tuple[Contender, ...]
    paired: int
    stands: bool | None
    verdict: str
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Certificate({self.name!r}, {self.verdict})"

    def _repr_html_(self) -> str:
        titles = ["trial", "parameters", "in the sweep", f"{self.metric} again", "best with probability"]
        rows = [
            [
                one.trial,
                wording.params(one.params),
                wording.metric(one.value),
                told(one),
                wording.share(one.chance, self.paired),
            ]
            for one in self.contenders
        ]
        return notebook.grid(titles, rows) + notebook.card([("verdict", self.verdict)])

    def to_json(self) -> dict[str, Any]:
        """Return the document that `kerasweep certify -o json` prints."""
        from kerasweep.scheduler.client.report import number

        return {
            "sweep": self.sweep,
            "name": self.name,
            "by": {"sweep": self.by, "name": self.by_name, "state": str(self.state)},
            "metric": {"name": self.metric, "goal": self.goal},
            "stands": self.stands,
            "verdict": self.verdict,
            "notes": list(self.notes),
            "seeds": len(self.contenders[0].seeds),
            "paired": self.paired,
            "variants": [
                {
                    "trial": one.trial,
                    "params": dict(one.params),
                    "value": number(one.value),
                    "mean": number(one.mean),
                    "std": number(one.std),
                    "probability": one.chance,
                    "seeds": list(one.seeds),
                    "values": [number(value) for value in one.values],
                    "failures": [
                        {"seed": seed, "class": str(failure.cls), "message": failure.message}
                        for seed, failure in one.failures
                    ],
                }
                for one in self.contenders
            ],
        }


def read(record: SweepRecord, variants: Sequence[Variant], failures: Mapping[int, Failure]) -> Certificate:
    """Return what a certifying sweep says, as far as it has come.

    Args:
        record: the certifying sweep.
        variants: its variants, the sweep's winner first.
        failures: why its trials failed, by number.

    Raises:
        InputError: it certifies no other sweep.
    """
    from kerasweep.jobs.seeds import method_rng
    from kerasweep.scheduler.evidence.bootstrap import bounded, chances, paired_seeds

    origin = record.certifies
    if origin is None:
        raise InputError(
            f"a certificate is that of a sweep made by `kerasweep certify`, got sweep {record.name}\n"
            f"`kerasweep certify {record.name}` trains its best variants again"
        )
    maximize, pairs = record.spec.metric.goal == "maximize", paired_seeds([one.values for one in variants])
    found: Sequence[float | None] = [None] * len(variants)
    if len(pairs) > 1 and len(variants) > 1:
        table = [[float(one.values[index] or 0.0) for index in pairs] for one in variants]
        rng = method_rng(record.spec.seed, "bootstrap")
        found = [bounded(one, len(pairs)) for one in chances(table, rng, maximize=maximize)]
    contenders = tuple(
        _contender(*one, failures)
        for one in zip(origin["trials"], origin["values"], variants, found, strict=False)
    )
    stands, verdict = judge(contenders, len(pairs), over=record.state.final)
    return Certificate(
        sweep=origin["sweep"],
        name=origin["name"],
        by=record.id,
        by_name=record.name,
        state=record.state,
        metric=record.spec.metric.name,
        goal=record.spec.metric.goal,
        contenders=contenders,
        paired=len(pairs),
        stands=stands,
        verdict=verdict,
        notes=tuple(_notes(contenders, len(pairs))) if record.state.final else (),
    )


def judge(contenders: Sequence[Contender], paired: int, *, over: bool) -> tuple[bool | None, str]:
    """Return whether the winner, which comes first, stands, and a sentence that says so.

    Args:
        contenders: the variants.
        paired: the number of seeds under which all have a value.
        over: whether all trials have ended.
    """
    trial, early = f"trial {contenders[0].trial}", "" if over else "so far, "
    if len(contenders) == 1:
        only = f"{trial} has {told(contenders[0])}; there is no other variant to compare it with"
        return None, early + only
    if paired < 2:
        under = "no seed" if not paired else "only one seed"
        return None, f"{early}it is open whether {trial} stands: {under} gave every variant a value"
    stands, why = _weigh(contenders, paired)
    too_few = f" ({paired} seeds cannot tell, it takes {_FEWEST_SEEDS})" if paired < _FEWEST_SEEDS else ""
    heads = {
        True: f"{trial} stands",
        False: f"{trial} does not stand",
        None: f"it is open whether {trial} stands{too_few}",
    }
    return stands, f"{early}{heads[stands]}: {why}"


def _weigh(contenders: Sequence[Contender], paired: int) -> tuple[bool | None, str]:
    """Return whether the first is the best of several, and why."""
    winner, best = contenders[0], max(contenders, key=lambda one: one.chance or 0.0)
    sure = (winner.chance or 0.0) >= _SURE
    with_ = f"with probability {wording.share(best.chance, paired)}"
    if best is not winner:
        rival = f"trial {best.trial} is the best {with_} ({told(best)}; trial {winner.trial}: {told(winner)})"
        return (False if (winner.chance or 0.0) <= 1.0 - _SURE else None), rival
    why = f"it is the best of {len(contenders)} {with_} ({told(winner)})"
    if sure and winner.failures:
        failed, seeds = len(winner.failures), wording.count(len(winner.seeds), "seed")
        return None, f"{why}, but failed under {failed} of {seeds}"
    return (True if sure else None), why


def told(one: Contender) -> str:
    """Return a variant's mean and spread in words."""
    return wording.spread(one.mean, one.std, sum(value is not None for value in one.values))


def _contender(
    trial: int, value: float | None, variant: Variant, chance: float | None, failures: Mapping[int, Failure]
) -> Contender:
    from statistics import fmean

    known = [one for one in variant.values if one is not None]
    failed = [
        (seed, failures[number])
        for number, seed in zip(variant.trials, variant.seeds, strict=True)
        if number in failures
    ]
    mean = fmean(known) if known else None
    return Contender(
        trial,
        value,
        dict(variant.params),
        variant.seeds,
        variant.values,
        mean,
        variant.std,
        chance,
        tuple(failed),
    )


def _notes(contenders: Sequence[Contender], paired: int) -> Iterator[str]:
    """Yield what a reader of the verdict must know."""
    for one in contenders:
        missing = len(one.seeds) - sum(value is not None for value in one.values)
        if missing:
            why = f": {one.failures[0][1].cls}: {one.failures[0][1].message}" if one.failures else ""
            yield f"trial {one.trial} has no value under {missing} of {len(one.seeds)} seeds{why}"
    seeds = len(contenders[0].seeds)
    if paired < seeds:
        yield f"only the {wording.count(paired, 'seed')} under which every variant has a value are compared"
    if paired < _FEWEST_SEEDS and len(contenders) > 1:
        yield f"a verdict needs at least {_FEWEST_SEEDS} seeds; `--seeds 10` or more says more"
