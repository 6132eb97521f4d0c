"""The providers `LLM` can talk to: one module and one line in `PROVIDERS` each; custom ones implement `Provider`."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

from ..capture import as_text
from .base import Message, Provider, Reply, Request, Usage

__all__ = [
    "PROVIDERS",
    "ChunkReader",
    "Message",
    "Model",
    "Provider",
    "Reply",
    "Request",
    "Usage",
    "connect",
    "reply_of",
]

PROVIDERS: Final[Mapping[str, str]] = {
    "openai": "openai:OpenAI",
    "anthropic": "anthropic:Anthropic",
    "google": "google:Google",
}
"""Name → ``module:class`` of this package, imported when first used."""

_FAMILIES: Final = {"claude": "anthropic", "gemini": "google", "models/gemini": "google", "gemma": "google"}
"""How the ids of models begin whose provider is not said; every other id goes to OpenAI's wire format."""


class Model(NamedTuple):
    """Which model, from whom, and how to get in."""

    provider: str
    model_id: str
    api_key: str | None = None
    base_url: str | None = None


def connect(model: Any, provider: "Provider | str | None" = None) -> tuple[Provider, str]:
    """The provider and the model id that *model* means.

    *model* is an id (``"gpt-4o-mini"``, ``"anthropic/claude-sonnet-5"``) or any object with ``model_id`` and
    optionally ``provider`` (a name, or an object with ``provider_type`` or ``name``), ``credentials`` (a mapping or an
    object), ``api_key`` and ``base_url``. *provider* overrides: a name of `PROVIDERS` or a `Provider`.
    Raises `ValueError` for a provider that does not exist.
    """
    if provider is not None and not isinstance(provider, str):
        return provider, resolve(model, "custom").model_id
    found = resolve(model, provider)
    if found.provider not in PROVIDERS:
        raise ValueError(
            f"There is no provider {found.provider!r}; use one of {', '.join(PROVIDERS)}, or pass provider=, "
            "an object with the methods of spanledger.instrumentation.Provider."
        )
    module, _, name = PROVIDERS[found.provider].partition(":")
    make: Callable[..., Provider] = getattr(import_module(f".{module}", __name__), name)
    return make(api_key=found.api_key, base_url=found.base_url), found.model_id


def resolve(model: Any, provider: str | None = None) -> Model:
    """*model*, whatever form it has, as a `Model`."""
    if isinstance(model, str):
        before, slash, after = model.partition("/")
        if provider is None and slash and before in PROVIDERS:
            return Model(before, after)
        return Model(provider or _family(model), model)
    owner = _get(model, "provider")
    model_id = str(_get(model, "model_id"))
    name = provider or (owner if isinstance(owner, str) else _get(owner, "provider_type", "name", "type"))
    return Model(
        provider=str(name).lower() if name else _family(model_id),
        model_id=model_id,
        api_key=_credential((model, owner), "api_key"),
        base_url=_credential((model, owner), "base_url"),
    )


def reply_of(response: Any) -> Reply:
    """What *response*, an object of one of the SDKs in `PROVIDERS`, says; anything else counts as text."""
    if isinstance(response, Reply):
        return response
    if (sdk := _module_of(response)) is None:
        return Reply(text=as_text(response))
    reply: Reply = sdk.read(response)
    return reply


class ChunkReader:
    """Reads the chunks of one stream, whichever of the SDKs in `PROVIDERS` they come from; anything else is text."""

    def __init__(self) -> None:
        self._read: Callable[[Any], Reply] = self._first

    def __call__(self, chunk: Any) -> Reply:
        return self._read(chunk)

    def _first(self, chunk: Any) -> Reply:
        sdk = _module_of(chunk)
        self._read = reply_of if sdk is None else sdk.chunk_reader()
        return self._read(chunk)


def _module_of(response: Any) -> Any:
    """The module here that reads what an SDK made."""
    package = type(response).__module__.partition(".")[0]
    return import_module(f".{package}", __name__) if package in PROVIDERS else None


def _family(model_id: str) -> str:
    return next((provider for start, provider in _FAMILIES.items() if model_id.startswith(start)), "openai")


def _credential(holders: tuple[Any, ...], name: str) -> str | None:
    for holder in holders:
        for place in (_get(holder, "credentials"), holder):
            if isinstance(value := _get(place, name), str) and value:
                return value
    return None


def _get(holder: Any, *names: str) -> Any:
    """The first of *names* that *holder*, a mapping or an object, has."""
    for name in names:
        value = holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
        if value is not None:
            return value
    return None
