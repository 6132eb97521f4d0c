"""Environment → frozen `Settings`. Every option has one variable, ``SPANLEDGER_`` and its name in capitals."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from .errors import ConfigurationError

PREFIX: Final = "SPANLEDGER_"
Content = Literal["full", "metadata", "none"]
Durability = Literal["memory", "process", "power"]
CHOICES: Final = {"content": get_args(Content), "durability": get_args(Durability)}
DEFAULT_DATABASE_URL: Final = "sqlite:///spanledger.db"


def _help(default: Any, text: str, *, shown: bool = True) -> Any:
    return field(default=default, repr=shown, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set, with its default. Built once at the edge and passed inward."""

    # It may hold a password, and representations end up in tracebacks.
    database_url: str = _help(DEFAULT_DATABASE_URL, "sqlite:///file.db or postgresql://user@host/database", shown=False)
    host: str = _help("127.0.0.1", "address the server listens on")
    port: int = _help(8318, "port the server listens on")
    content: Content = _help("full", "what of prompts and results is stored: full, metadata (sizes only) or none")
    redact: bool = _help(True, "mask secrets (API keys, tokens, passwords) before content is stored")
    prices: str | None = _help(None, "JSON file with your own prices, which win over the built-in ones")
    jaeger_url: str | None = _help(None, "address of Jaeger's UI; rows then carry trace_url")
    max_body_bytes: int = _help(20 * 1024 * 1024, "largest OTLP body accepted, after decompression")
    max_value_bytes: int = _help(256 * 1024, "largest single captured value; longer ones keep head and tail")
    allowed_hosts: str | None = _help(
        None, "names the server goes by besides localhost and IP addresses, comma separated"
    )
    cors_origins: str | None = _help(
        None, "origins whose pages may use the server, comma separated: https://app.example"
    )

    retention: str | None = _help(None, "rows older than this are deleted while the server runs: 90d, 12h, 8w")
    retention_max_size: str | None = _help(
        None, "size of the database beyond which the server deletes the oldest rows: 20GB"
    )
    archive: str | None = _help(None, "folder where rows the server would delete go as Parquet files instead")

    durability: Durability = _help("process", "what kept spans survive until they are stored: memory, process or power")
    spool_folder: str | None = _help(None, "folder where spans wait for the database; by default one per database")
    spool_max_bytes: int = _help(1024**3, "size of the spool beyond which new spans are dropped and counted")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> "Settings":
        """Settings from ``SPANLEDGER_*`` variables; *overrides* that are not None win.

        Raises `ConfigurationError` naming the variable whose value cannot be read.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for option in fields(cls):
            variable = PREFIX + option.name.upper()
            if (override := overrides.pop(option.name, None)) is not None:
                values[option.name] = override
            elif text := environ.get(variable):
                values[option.name] = _parse(variable, text, option.default)
        if overrides:
            raise ConfigurationError(f"There is no setting named {', '.join(sorted(overrides))}.")
        for name, choices in CHOICES.items():
            if name in values and values[name] not in choices:
                raise ConfigurationError(f"{PREFIX}{name.upper()} is {values[name]!r}; use {_listed(choices)}.")
        return cls(**values)

    @property
    def hosts(self) -> list[str]:
        return _list(self.allowed_hosts)

    @property
    def origins(self) -> list[str]:
        return _list(self.cors_origins)

    def price_file(self) -> Path | None:
        return Path(self.prices) if self.prices else None


def _parse(variable: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off"):
            return False
        raise ConfigurationError(f"{variable} is {text!r}; use true or false.")
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise ConfigurationError(f"{variable} is {text!r}; it must be a whole number.") from None
    return text


def _list(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _listed(choices: tuple[str, ...]) -> str:
    """``a, b or c``."""
    return f"{', '.join(choices[:-1])} or {choices[-1]}"
