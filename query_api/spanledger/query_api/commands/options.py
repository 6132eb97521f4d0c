"""What the commands share: options that are also ``SPANLEDGER_*`` variables, and settings made from both."""

import argparse
import getpass
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Final, NamedTuple

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import CHOICES, PREFIX, Settings

TRUE: Final = ("1", "true", "yes", "on")
FALSE: Final = ("0", "false", "no", "off", "")


class Command(NamedTuple):
    """A subcommand. *perform* returns the exit status; *settings* names the `Settings` it takes as options."""

    name: str
    summary: str
    examples: str
    settings: tuple[str, ...]
    add_options: Callable[["Options"], None]
    perform: Callable[[argparse.Namespace], int]


class Options:
    """Adds options whose default is the variable of the same name."""

    def __init__(self, parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
        self.parser = parser
        self._environ = environ

    def value(self, flag: str, help: str, *, repeatable: bool = False, **kwargs: Any) -> None:
        """``--flag VALUE``. The variable's text is read as the option's would be; a *repeatable* one's holds commas."""
        variable = _variable(flag)
        default: Any = self._environ.get(variable) or None  # argparse applies *type* to a text
        if repeatable:
            kwargs["action"], default = "append", default.split(",") if default else None
        self.parser.add_argument(flag, default=default, help=f"{help} [{variable}]", **kwargs)

    def switch(self, flag: str, help: str) -> None:
        """``--flag``, false unless given. Raises `ConfigurationError` if the variable is neither yes nor no."""
        variable = _variable(flag)
        text = self._environ.get(variable, "").lower()
        if text not in TRUE + FALSE:
            raise ConfigurationError(f"{variable} is {text!r}; use true or false.")
        self.parser.add_argument(flag, action="store_true", default=text in TRUE, help=f"{help} [{variable}]")

    def setting(self, name: str) -> None:
        """The option of a field of `Settings`, which reads its variable itself."""
        field = next(f for f in fields(Settings) if f.name == name)
        assert field.default is not MISSING
        default = "" if field.default is None else f" (default: {field.default})"
        kind: dict[str, Any] = {"type": int if isinstance(field.default, int) else str, "choices": CHOICES.get(name)}
        if isinstance(field.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        self.parser.add_argument(
            "--" + name.replace("_", "-"),
            default=None,
            help=f"{field.metadata['help']}{default} [{PREFIX}{name.upper()}]",
            **kind,
        )


def add_command(subparsers: Any, command: Command, environ: Mapping[str, str]) -> None:
    parser = subparsers.add_parser(
        command.name,
        help=command.summary,
        description=command.summary[0].upper() + command.summary[1:] + ".",
        epilog="examples:\n" + command.examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options = Options(parser, environ)
    for name in command.settings:
        options.setting(name)
    command.add_options(options)
    parser.set_defaults(perform=command.perform)


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Options, else variables, else defaults. Raises `ConfigurationError` naming what cannot be understood."""
    given = {f.name: getattr(arguments, f.name) for f in fields(Settings) if hasattr(arguments, f.name)}
    return Settings.from_environment(**given)


def open_ledger(arguments: argparse.Namespace) -> Ledger:
    """The ledger of the settings. Raises `ConfigurationError` or `StoreUnavailable`, each saying what to do."""
    return Ledger.open(settings_from(arguments))


def shown(database_url: str) -> str:
    """*database_url* without its password."""
    try:
        return make_url(database_url).render_as_string(hide_password=True)
    except ArgumentError:
        return "the database"


def operator() -> str:
    """Who runs this command, for the audit log."""
    try:
        return f"command line: {getpass.getuser()}"
    except (OSError, KeyError):  # a container's user without a name
        return "command line"


def _variable(flag: str) -> str:
    return PREFIX + flag.removeprefix("--").replace("-", "_").upper()
