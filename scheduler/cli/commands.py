"""How commands are declared: their settings, their examples, and what happens to their errors."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kerasweep.scheduler.cli import completion, exits
from kerasweep.scheduler.cli.flags import Body, expand
from kerasweep.scheduler.cli.output import OutputFormat

RUN, LOOK, RESULTS, STEER, SET_UP = PANELS = ("Run", "Look", "Results", "Steer", "Set up")
_HELP_CHARS = 62

SweepName = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help="The sweep: its id, a unique beginning of it, or its name (the newest).",
        autocompletion=completion.sweeps,
        show_default=False,
    ),
]
TrialNumber = Annotated[
    int | None, typer.Argument(metavar="[TRIAL]", min=0, help="One trial, by its number.", show_default=False)
]
Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="How to print it.")]

# What click raises where the user typed something wrong, wherever the installed typer keeps it.
_CLICK_ERRORS: type[Exception] = typer.BadParameter.__mro__[2]


class Commands(TyperGroup):
    """The command line: turns every error into a short message and an exit code."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the options that stand before the command."""
        try:
            return super().make_context(*args, **extra)
        except _CLICK_ERRORS as exc:
            raise typer.Exit(_tell_usage(exc)) from exc

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except _CLICK_ERRORS as exc:
            raise typer.Exit(_tell_usage(exc)) from exc
        except OSError as exc:
            if exc.errno == errno.EPIPE:  # the reader has seen enough, as in `kerasweep trials | head`
                raise
            raise typer.Exit(exits.tell(exc, debug=_debug(ctx))) from exc
        except Exception as exc:  # the one place where unforeseen errors are reported
            raise typer.Exit(exits.tell(exc, debug=_debug(ctx))) from exc

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands, in plain words: rich would take half of the time that help has."""
        formatter.write_usage(ctx.command_path, "[OPTIONS] COMMAND [ARGS]...")
        formatter.write_paragraph()
        formatter.write_text(self.help or "")
        commands = [self.commands[name] for name in self.list_commands(ctx)]
        for panel in PANELS:
            listed = [one for one in commands if getattr(one, "rich_help_panel", None) == panel]
            with formatter.section(panel):
                formatter.write_dl([(str(one.name), one.get_short_help_str(_HELP_CHARS)) for one in listed])
        with formatter.section("Options"):
            records = [one.get_help_record(ctx) for one in self.get_params(ctx)]
            formatter.write_dl([record for record in records if record])
        formatter.write_paragraph()
        formatter.write_text("Each command tells more, with examples: kerasweep COMMAND --help")


app = typer.Typer(
    name="kerasweep",
    cls=Commands,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def group(name: str, panel: str, text: str) -> typer.Typer:
    """Declare a command that has commands of its own.

    Args:
        name: its name.
        panel: under which heading `--help` lists it.
        text: its help.
    """
    made = typer.Typer(name=name, help=text, no_args_is_help=True, rich_markup_mode="rich")
    app.add_typer(made, rich_help_panel=panel)
    return made


def command(
    panel: str, *examples: str, name: str | None = None, parent: typer.Typer = app
) -> Callable[[Body], Body]:
    """Declare a command; its parameters `client` and `worker` become the flags that they stand for.

    Args:
        panel: under which heading `--help` lists it.
        examples: command lines, shown at the end of its help.
        name: its name, where that is not the function's.
        parent: the group that it belongs to; by default the command line itself.
    """

    def register(function: Body) -> Body:
        epilog = "[dim]Examples[/dim]\n" + "\n".join(f"[dim]$[/dim] {example}" for example in examples)
        made = expand(function)
        parent.command(name or function.__name__.rstrip("_"), rich_help_panel=panel, epilog=epilog)(made)
        return function

    return register


def _debug(ctx: Any) -> bool:
    return bool(ctx.params.get("debug"))


def _tell_usage(exc: Any) -> int:
    context = getattr(exc, "ctx", None)
    where = context.command_path if context else "kerasweep"
    message = _plain(exc)
    exits.write(f"{message}{_near(message)}\nTry: {where} --help")
    return int(exc.exit_code)


def _plain(exc: Any) -> str:
    """Return a usage error's message in our words, where it is pydantic's: the rule, and the value."""
    message = str(exc.format_message()).replace("Value error, ", "")
    head, found, rule = message.partition("Input should be ")
    if not found:
        return message
    cause = exc.__cause__ or exc.__context__
    given = cause.errors()[0].get("input") if hasattr(cause, "errors") else None
    told = f", got {str(given)!r}" if given is not None else ""
    return f"{head}must be {rule.partition(', unable')[0]}{told}"


def _near(message: str) -> str:
    """Return what was meant, where a choice was mistyped."""
    from difflib import get_close_matches

    given, _, choices = message.partition(" is not one of ")
    near = get_close_matches(given.rpartition(" ")[2].strip("'"), re.findall(r"'([^']+)'", choices), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
