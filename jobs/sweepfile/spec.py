"""The sweep file: which job, what to try, how to choose, when to end.

A `SweepSpec` is the validated content of the file. It is stored as JSON and round-trips exactly.
"""

from __future__ import annotations

import keyword
import logging
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    Strict,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from kerasweep.jobs.sweepfile import synonyms, template
from kerasweep.jobs.sweepfile.block import (
    Block,
    Count,
    Natural,
    NotNegative,
    Positive,
    Text,
    rule_broken,
    take_whole,
)
from kerasweep.jobs.sweepfile.dimension import AnyDimension, Dimension, identity, is_dimension
from kerasweep.jobs.sweepfile.method import Method, check_method
from kerasweep.jobs.sweepfile.rules import RuleError, show
from kerasweep.jobs.sweepfile.sheet import Sheet, read_sheet, sheet_of
from kerasweep.jobs.sweepfile.space import Params, Space
from kerasweep.jobs.sweepfile.stopping import Stopping
from kerasweep.jobs.sweepfile.training import Training
from kerasweep.jobs.trial import FailureClass

log = logging.getLogger(__name__)

LIMIT_TRIALS = 100_000
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_NAME = re.compile(NAME)


class Metric(Block):
    """The metric that the sweep optimizes."""

    elsewhere: ClassVar[Mapping[str, str]] = synonyms.METRIC

    name: Text = Field(examples=["val_loss"], description="A metric as Keras logs it after an epoch")
    goal: Literal["minimize", "maximize"] = Field(examples=["minimize"])


class Budget(Block):
    """When the sweep ends, whichever comes first."""

    max_trials: Count | None = None
    max_hours: Positive | None = Field(default=None, description="From submit, in hours")
    max_failed: Natural | None = Field(
        default=None, description="How many trials may fail; diverged ones do not count"
    )


class Resources(Block):
    """What each trial trains on."""

    gpus: Natural = Field(default=0, description="0: the CPU. 2 and more: MirroredStrategy")


class Retries(Block):
    """How often a trial may fail."""

    max_failures: Natural = Field(
        default=3, description="Crashes and hangs; preemptions and lost workers do not count"
    )
    max_machine: Natural = Field(default=10, description="Faults of the machine: a full disk, a sick GPU")
    max_store: Natural = Field(default=50, description="Attempts that ended because the store refused")
    max_interruptions: Natural = Field(default=200, description="Lost workers, and as many preemptions")

    def bound_of(self, cls: FailureClass) -> int:
        """Return how many failures of a class a trial survives."""
        bounds = {FailureClass.MACHINE: self.max_machine, FailureClass.STORE: self.max_store}
        interruptions = dict.fromkeys((FailureClass.LOST, FailureClass.PREEMPTED), self.max_interruptions)
        return {**bounds, **interruptions}.get(cls, self.max_failures)


# The tags appear in the path of an error, whose last key is named in the message.
KeptModels = Annotated[
    Annotated[Natural, Tag("keep_top")] | Annotated[Literal["all"], Tag("all")],
    Discriminator(lambda given: "all" if given == "all" else "keep_top"),
]


# As above, the tags appear in the path of an error.
Seed = Annotated[int, Strict(), Field(ge=0, le=0x7FFF_FFFF), BeforeValidator(take_whole)]
Repeats = Annotated[
    Annotated[Count, Tag("repeats")] | Annotated[list[Seed], Tag("seeds"), Field(min_length=1)],
    Discriminator(lambda given: "seeds" if isinstance(given, list | tuple) else "repeats"),
]


class Checkpoints(Block):
    """How often a trial's whole state is saved, and how much of it is kept."""

    every_s: NotNegative = Field(
        default=30.0, description="Seconds between two checkpoints; 0 is every epoch"
    )
    keep_top: KeptModels = Field(
        default=3, description="How many of the best trials keep their model file, or all"
    )

    @property
    def kept(self) -> int | None:
        """How many of the best trials keep their model file; None for all."""
        return None if self.keep_top == "all" else self.keep_top


class SweepSpec(Block):
    """The content of a sweep file."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        **synonyms.SWEEP,
        **{key: f"`{key}` belongs under `training`" for key in Training.model_fields},
        **{key: f"`{key}` belongs under `budget`" for key in Budget.model_fields},
        "goal": "`goal` belongs under `metric`",
        "gpus": "`gpus` belongs under `resources`",
        "halving": "`halving` belongs under `stopping`",
        "median": "`median` belongs under `stopping`",
        "patience": "`patience` of the sweep belongs under `stopping`, that of a trial under `training`",
    }

    version: Literal[1] = Field(default=1, description="The version of this format")
    name: Text = Field(examples=["fashion-mlp"])
    job: Text = Field(examples=["train.py"], description="The training program, from the sweep file's folder")
    metric: Metric = Field(examples=[{"name": "val_loss", "goal": "minimize"}])
    method: Method = Field(examples=["random"])
    parameters: dict[str, AnyDimension] = Field(
        default_factory=dict, description="Arguments of the job's functions, by name"
    )
    training: dict[str, JsonValue] = Field(
        examples=[{"epochs": 30, "batch_size": 32}], description="How each trial trains"
    )
    files: list[Text] = Field(
        default_factory=list,
        examples=[["points.csv", "images/**"]],
        description="Data files that travel with the job, from its folder, beside those of data/",
    )
    stopping: Stopping | None = Field(default=None, description="When trials or the sweep end early")
    start: list[dict[str, JsonValue]] = Field(
        default_factory=list,
        description="Points to try first",
        examples=[[{"learning_rate": 0.01}]],
    )
    seed: Natural = Field(default=0, description="The seed of every random stream of the sweep")
    repeats: Repeats = Field(
        default=1,
        description="How many trials, each under its own seed, a variant has; or these seeds",
        examples=[3],
    )
    budget: Budget = Budget()
    resources: Resources = Resources()
    retries: Retries = Retries()
    checkpoints: Checkpoints = Checkpoints()

    def space(self) -> Space:
        """Return the space: the parameters, then what is swept under training, by dotted path.

        Under method `grid` every dimension is finite.
        """
        return Space({**self._on_method(self.parameters), **self._swept()})

    def training_for(self, params: Mapping[str, Any]) -> Training:
        """Return the training block with a trial's values filled in.

        Raises:
            SpecError: the values are inconsistent.
        """
        try:
            return template.fill(self.training, params)
        except RuleError as breach:
            raise Sheet({}).error(breach) from breach

    def most_epochs(self) -> int:
        """Return the maximum number of epochs that a trial of the sweep may have."""
        return template.most_epochs(self.training)

    def start_points(self) -> list[Params]:
        """Return the points to try first, with parameters in file order, and what has one value filled in."""
        space = self.space()
        return [space.point(given) for given in self.start]

    @property
    def times(self) -> int:
        """How many trials each variant has; see `kerasweep.jobs.variants`."""
        return self.repeats if isinstance(self.repeats, int) else len(self.repeats)

    def planned_trials(self) -> int:
        """Return the number of trials that the budget and the space allow."""
        return self.planned_variants() * self.times

    def planned_variants(self) -> int:
        """Return the number of variants that the budget and the space allow; without repeats, of trials."""
        most = self.budget.max_trials
        sizes = (None if most is None else most // self.times, self.space().grid_size())
        return min(size for size in sizes if size is not None)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            rule = f"must be letters, digits, '.', '_' and '-', 100 at most, got {show(name)}"
            raise RuleError(rule, _remedy_for_name(name))
        return name

    @field_validator("job")
    @classmethod
    def _check_job(cls, job: str) -> str:
        if not job.endswith(".py") or "\0" in job:
            raise RuleError(f"must be the path of a .py file, got {show(job)}", "such as train.py")
        return job

    @field_validator("files")
    @classmethod
    def _check_files(cls, files: list[str]) -> list[str]:
        for index, pattern in enumerate(files):
            path = PurePosixPath(pattern.removeprefix("!"))
            if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in pattern:
                rule = f"must be a path or a pattern inside the job's folder, got {show(pattern)}"
                remedy = (
                    "copy or link the files into that folder, or let the job read them by an absolute path"
                )
                raise RuleError(rule, remedy, (index,))
        return files

    @field_validator("repeats")
    @classmethod
    def _check_repeats(cls, repeats: int | list[int]) -> int | list[int]:
        twice = [] if isinstance(repeats, int) else [one for one in repeats if repeats.count(one) > 1]
        if twice:
            raise RuleError(f"seeds must differ, got {twice[0]} {len(twice)} times", "keep one of them")
        return repeats

    @field_validator("parameters")
    @classmethod
    def _check_arguments(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        for name in parameters:
            if not name.isidentifier() or keyword.iskeyword(name):
                rule = f"a parameter is named like an argument in Python, got {show(name)}"
                raise RuleError(rule, "use letters, digits and _", (name,))
        return parameters

    @field_validator("training", mode="before")
    @classmethod
    def _check_block(cls, training: Any) -> Any:
        if is_dimension(training):
            rule = f"training itself is not swept, got {show(training)}"
            raise RuleError(rule, "let the values of its keys be distributions")
        return training

    @model_validator(mode="after")
    def _check_whole(self) -> SweepSpec:
        template.check(self.training, self._swept())
        try:
            self._check_points()
            check_method(self.method.name, {**self.parameters, **template.swept(self.training)})
            size = self.space().grid_size()
        except RuleError as breach:
            raise RuleError(breach.rule, breach.remedy, _place(breach.at)) from breach
        self._check_end(size)
        self._check_start()
        self._check_repeated()
        if self.stopping is not None:
            try:
                self.stopping.check(self.most_epochs())
            except RuleError as breach:
                raise breach.within("stopping") from breach
        return self

    def _swept(self) -> dict[str, Dimension]:
        return self._on_method(template.swept(self.training))

    def _on_method(self, dimensions: Mapping[str, Dimension]) -> dict[str, Dimension]:
        if self.method.name != "grid":
            return dict(dimensions)
        return {name: dimension.on_grid() for name, dimension in dimensions.items()}

    def _check_points(self) -> None:
        if self.method.name == "grid":
            return
        for name, dimension in {**self.parameters, **self._swept()}.items():
            if getattr(dimension, "points", None):
                rule = f"points says how many values a grid tries, got it with method '{self.method.name}'"
                raise RuleError(rule, "remove it, or write `method: grid`", (name, "points"))

    def _check_start(self) -> None:
        if self.start and self.method.name == "grid":
            rule = f"method 'grid' tries every point in its order, got {len(self.start)} under start"
            raise RuleError(rule, "remove `start`, or use another method", ("start",))
        space, seen = self.space(), dict[str, int]()
        for index, given in enumerate(self.start):
            try:
                point = space.point(given)
            except RuleError as breach:
                raise breach.within("start", index) from breach
            if seen.setdefault(identity(point), index) != index:
                rule = f"start points must differ, got {show(given)} twice"
                raise RuleError(rule, "keep one of the two", ("start", index))
        if self.budget.max_trials is not None and len(self.start) * self.times > self.budget.max_trials:
            most = f"{self.budget.max_trials}" + (f" / {self.times} repeats" if self.times > 1 else "")
            rule = f"start holds at most max_trials points ({most}), got {len(self.start)}"
            raise RuleError(rule, "remove some, or raise `budget: {max_trials: ...}`", ("start",))

    def _check_repeated(self) -> None:
        if self.times == 1:
            return
        most = self.budget.max_trials
        if most is not None and most < self.times:
            rule = (
                f"max_trials must be at least repeats, the trials of one variant, got {most} < {self.times}"
            )
            raise RuleError(rule, f"write {self.times}, or a multiple of it", ("budget", "max_trials"))
        for name in ("halving", "median"):
            if getattr(self.stopping, name, None) is not None:
                rule = f"repeats train every variant to its end, got {self.times} with `stopping: {name}`"
                remedy = (
                    "remove one of the two; `kerasweep certify` repeats the best of a sweep that stops early"
                )
                raise RuleError(rule, remedy, ("repeats",))

    def _check_end(self, size: int | None) -> None:
        if size is None and self.budget.max_trials is None:
            rule = f"method '{self.method.name}' never ends on a continuous space without a budget"
            raise RuleError(rule, "add `budget: {max_trials: 20}`", ("method",))
        points = None if size is None else size * self.times
        planned = min(number for number in (points, self.budget.max_trials) if number is not None)
        if planned > LIMIT_TRIALS:
            rule = f"a sweep has at most {LIMIT_TRIALS:,} trials, got {planned:,}"
            raise RuleError(rule, "set a lower `budget: {max_trials: ...}`", ("budget", "max_trials"))


def _remedy_for_name(name: str) -> str:
    if not _NAME.match(name):
        return "begin with a letter or a digit"
    return f"such as {re.sub(r'[^A-Za-z0-9._-]+', '-', name)[:100].rstrip('-')}"


def load_spec(path: str | Path) -> SweepSpec:
    """Read a sweep file.

    Raises:
        SpecError: it cannot be read or is not valid; the message names the key, the line and the remedy.
    """
    spec = _validate(read_sheet(Path(path)))
    size = spec.space().grid_size()
    if spec.method.name == "grid" and size is not None and size > spec.planned_variants():
        times = f", {spec.times} for each point" if spec.times > 1 else ""
        log.warning("the grid has %d points and the budget is %d trials%s, spread over the whole grid",
                    size, spec.planned_trials(), times)  # fmt: skip
    return spec


def parse_spec(mapping: Mapping[str, Any]) -> SweepSpec:
    """Validate a sweep given as a Python mapping; see `load_spec`."""
    return _validate(sheet_of(mapping))


def _validate(sheet: Sheet) -> SweepSpec:
    try:
        return SweepSpec.model_validate(sheet.data)
    except ValidationError as error:
        raise sheet.error(rule_broken(error)) from error


def _place(at: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return the position in the file of the dimension named first in `at`."""
    if not at:
        return ("parameters",)
    name, *rest = at
    path = str(name).split(".") if str(name).startswith(template.ROOT + ".") else ["parameters", name]
    return (*path, *rest)
