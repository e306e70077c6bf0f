"""Declares commands: their settings, their examples, and how their errors are handled."""

from __future__ import annotations

import errno
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from kerasweep.jobs.errors import InputError
from kerasweep.scheduler.cli import completion, exits
from kerasweep.scheduler.cli.flags import Body, expand
from kerasweep.scheduler.cli.output import OutputFormat

RUN, LOOK, RESULTS, STEER, SET_UP = PANELS = ("Run", "Look", "Results", "Steer", "Set up")

SweepName = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help="The sweep: its id, a unique prefix of it, or its name (the newest).",
        autocompletion=completion.sweeps,
        show_default=False,
    ),
]
TrialNumber = Annotated[
    int | None, typer.Argument(metavar="TRIAL", min=0, help="One trial, by its number.", show_default=False)
]
Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="The output format.")]

# The usage errors of click, wherever the installed typer keeps them.
_CLICK_ERRORS: type[Exception] = typer.BadParameter.__mro__[2]


class PlainHelp:
    """Help that shows flags, which take no value, without one, and no braces around a required argument."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, `--help` included."""
        params = super().get_params(ctx)  # type: ignore[misc]
        for one in params:
            if getattr(one, "is_flag", False):
                one.metavar = ""
        return params

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line; braces are left only around alternatives."""
        pieces = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        return [re.sub(r"\{([^{}|]*)\}", r"\1", piece) for piece in pieces]


class Command(PlainHelp, TyperCommand):
    """A command."""


class CommandGroup(PlainHelp, TyperGroup):
    """A group of commands."""


class Commands(CommandGroup):
    """The command line: turns every error into a short message and an exit code."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Parse the options before the command."""
        try:
            return super().make_context(*args, **extra)
        except _CLICK_ERRORS as exc:
            raise typer.Exit(_tell_usage(exc)) from exc
        except InputError as exc:
            raise typer.Exit(exits.tell(exc, debug=False)) from exc

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the options before the command; those for completion may name a shell."""
        if len(args) == 2 and args[0] in completion.FLAGS and not ctx.resilient_parsing:
            completion.provide(*args)
            raise typer.Exit
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except _CLICK_ERRORS as exc:
            raise typer.Exit(_tell_usage(exc)) from exc
        except OSError as exc:
            if exc.errno == errno.EPIPE:  # the reader has closed the pipe, as in `kerasweep trials | head`
                raise
            raise typer.Exit(exits.tell(exc, debug=_debug(ctx))) from exc
        except Exception as exc:  # the one place where unexpected errors are reported
            raise typer.Exit(exits.tell(exc, debug=_debug(ctx))) from exc

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands as plain text: rich would take half of the time that help takes."""
        formatter.write_usage(ctx.command_path, "[OPTIONS] COMMAND [ARGS]...")
        formatter.write_paragraph()
        formatter.write_text(self.help or "")
        commands = [self.commands[name] for name in self.list_commands(ctx)]
        for panel in PANELS:
            listed = [one for one in commands if getattr(one, "rich_help_panel", None) == panel]
            with formatter.section(panel):
                formatter.write_dl([(str(one.name), _summary(one.help)) for one in listed])
        with formatter.section("Options"):
            records = [one.get_help_record(ctx) for one in self.get_params(ctx)]
            formatter.write_dl([record for record in records if record])
        formatter.write_paragraph()
        formatter.write_text("For details and examples: kerasweep COMMAND --help")


app = typer.Typer(
    name="kerasweep",
    cls=Commands,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def group(name: str, panel: str, text: str) -> typer.Typer:
    """Declare a group of commands.

    Args:
        name: its name.
        panel: its heading in `--help`.
        text: its help.
    """
    made = typer.Typer(name=name, cls=CommandGroup, help=text, no_args_is_help=True, rich_markup_mode="rich")
    app.add_typer(made, rich_help_panel=panel)
    return made


def command(
    panel: str, *examples: str, name: str | None = None, parent: typer.Typer = app
) -> Callable[[Body], Body]:
    """Declare a command; its parameters `client` and `worker` are replaced by the flags they stand for.

    Args:
        panel: its heading in `--help`.
        examples: command lines, shown at the end of its help.
        name: its name, if different from the function's.
        parent: its group; by default the top level.
    """

    def register(function: Body) -> Body:
        epilog = "[dim]Examples[/dim]\n" + "\n".join(f"[dim]$[/dim] {example}" for example in examples)
        called, text = name or function.__name__.rstrip("_"), _unbroken(function.__doc__ or "")
        declare = parent.command(called, cls=Command, help=text, rich_help_panel=panel, epilog=epilog)
        declare(expand(function))
        return function

    return register


def _unbroken(text: str) -> str:
    """Return a docstring with one line for each paragraph: the terminal breaks them where it ends."""
    return "\n\n".join(part.replace("\n", " ") for part in inspect.cleandoc(text).split("\n\n"))


def _summary(text: str | None) -> str:
    return _unbroken(text or "").partition("\n\n")[0]


def _debug(ctx: Any) -> bool:
    return bool(ctx.params.get("debug"))


def _tell_usage(exc: Any) -> int:
    if type(exc).__name__ == "NoArgsIsHelpError":  # a group without a command: its help has been printed
        return int(exc.exit_code)
    context = getattr(exc, "ctx", None)
    where = context.command_path if context else "kerasweep"
    message = re.sub(r" \(Possible options: (.+)\)$", _meant, _plain(exc))
    exits.write(f"{message}{_near(message)}{_misplaced(where, message)}\nTry: {where} --help")
    return int(exc.exit_code)


def _meant(options: re.Match[str]) -> str:
    """Suggest the options nearest to a mistyped one, as is done for commands."""
    return f". Did you mean {' or '.join(map(repr, options[1].split(', ')))}?"


def _plain(exc: Any) -> str:
    """Rephrase a usage error that comes from pydantic as rule and value."""
    message = str(exc.format_message()).replace("Value error, ", "")
    head, found, rule = message.partition("Input should be ")
    if not found:
        return message
    cause = exc.__cause__ or exc.__context__
    given = cause.errors()[0].get("input") if hasattr(cause, "errors") else None
    told = f", got {str(given)!r}" if given is not None else ""
    return f"{head}must be {rule.partition(', unable')[0]}{told}"


def _misplaced(where: str, message: str) -> str:
    """Point out an option whose value was given where `predict` expects a trial's number."""
    got = re.search(r"'TRIAL'.*'([^']+\.(?:npy|npz|csv))'", message)
    return f"; inputs go with --input: --input {got[1]}" if got and where.endswith(" predict") else ""


def _near(message: str) -> str:
    """Suggest the nearest choice for a mistyped one."""
    from difflib import get_close_matches

    given, _, choices = message.partition(" is not one of ")
    near = get_close_matches(given.rpartition(" ")[2].strip("'"), re.findall(r"'([^']+)'", choices), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
