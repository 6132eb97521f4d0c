"""`Redactor`: what of prompts, results and errors may be stored, applied to rows before they reach the database.

Two independent things: the content policy (``full``, ``metadata``: only sizes, ``none``) and the masking of secrets,
built-in shapes first (`secret_patterns`), then the user's own hook. Redaction by patterns is best effort: who must
not store content at all sets the policy. Token counts, costs and ``usage_raw`` are never touched.
"""

import json
import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, Literal, TypeVar

import orjson

from .records import Content, Execution, LLMCall, revised
from .secret_patterns import is_suspect, mask, mask_secrets, may_hold_quoted, name_credentials, names_a_credential

Policy = Literal["full", "metadata", "none"]
Hook = Callable[[str], str]
Row = TypeVar("Row", Execution, LLMCall)

_EXECUTION_CONTENT: Final = ("input_data", "output_data")
_CALL_CONTENT: Final = ("prompt", "response")
_ERRORS: Final = ("error_message", "error_stacktrace")
_EXECUTION_TEXTS: Final = (*_EXECUTION_CONTENT, *_ERRORS, "metadata")
_CALL_TEXTS: Final = (*_CALL_CONTENT, *_ERRORS, "metadata")
_execution_texts: Final = attrgetter(*_EXECUTION_TEXTS)
_call_texts: Final = attrgetter(*_CALL_TEXTS)
_JSON: Final = ("input_data", "output_data", "metadata")

_SIZE_ONLY: Final = '{"redacted":"metadata","chars":'
_NO_CONTENT: Final = '{"attributes":{},"body":null}'
_CONTENT_KEY: Final = re.compile(
    r"answer|argument|body|completion|content|description|document|input|instruction|message|output|prompt|query|"
    r"question|result|text|transcript|variable",
    re.I,
)
_LONGEST_IDENTIFIER: Final = 128
_JSON_STARTS: Final = ("{", "[", '"')


class Redactor:
    """Redacts rows. Thread-safe if *hook* is.

    *content* says what of prompts, responses, inputs and outputs is kept: ``full``; ``metadata`` (in their place
    ``{"redacted":"metadata","chars":n}``); ``none`` (NULL). With the latter two, ``metadata`` and log records keep
    numbers and identifiers, no prose. Error texts are kept under every policy. *secrets* masks credentials wherever
    they stand. *hook* gets every text that would be stored (each string of a JSON document by itself) and returns
    what to store instead; if it raises or returns anything but text, that text is dropped, never the row. A row that
    masking or the hook changed says so in ``sanitized``.
    """

    def __init__(self, content: Policy = "full", secrets: bool = True, hook: Hook | None = None) -> None:
        self._content = content
        self._secrets = secrets
        self._hook = hook
        self._keeps_all_but_secrets = content == "full" and secrets and hook is None

    def execution(self, row: Execution) -> Execution:
        """The row as it may be stored; the same object if nothing changed."""
        texts = _execution_texts(row)
        return row if self._takes(texts) else self._row(row, _EXECUTION_TEXTS, texts)

    def llm_call(self, row: LLMCall) -> LLMCall:
        """The row as it may be stored; the same object if nothing changed."""
        texts = _call_texts(row)
        return row if self._takes(texts) else self._row(row, _CALL_TEXTS, texts)

    def content(self, row: Content) -> Content:
        """The log record as it may be stored. Under a policy without content its body is null."""
        body = self.text(row.body if self._content == "full" else _attributes_only(row.body))
        return row if body == row.body else row._replace(body=body or _NO_CONTENT)

    def _takes(self, texts: Sequence[str | None]) -> bool:
        """Whether nothing about *texts* may have to change: one look for all, and hardly a row needs another."""
        return self._keeps_all_but_secrets and _are_harmless([text for text in texts if text])

    def _row(self, row: Row, columns: Sequence[str], texts: Sequence[str | None]) -> Row:
        changes: dict[str, Any] = {}
        for column, text in zip(columns, texts, strict=True):
            if text is None:
                continue
            allowed = self._allowed(text, column)
            clean = allowed if column in _JSON and _is_number(allowed) else self.text(allowed)
            if clean != text:
                changes[column] = clean
            if clean != allowed:
                changes["sanitized"] = True
        return revised(row, changes) if changes else row

    def _allowed(self, text: str, column: str) -> str | None:
        """What the content policy leaves of a column."""
        if self._content == "full" or column in _ERRORS:
            return text
        if column == "metadata":
            return _without_prose(text)
        if self._content == "none":
            return None
        return text if text.startswith(_SIZE_ONLY) else f"{_SIZE_ONLY}{len(text)}}}"

    def text(self, text: str | None) -> str | None:
        """The text without secrets, as the hook returns it; None if the hook failed."""
        if text is None or not (self._secrets or self._hook):
            return text
        try:
            document = _document(text)
            if document is None:
                return self._plain(text)
            if self._hook is None and not is_suspect(text) and not _has_credential(document):
                return text
            return self._masked(text)
        except Exception:  # the hook is the user's code, and nesting may be deeper than Python's stack
            return mask_secrets(text) if self._hook is None else None

    def _plain(self, text: str) -> str:
        if self._secrets:
            text = mask_secrets(text)
        if self._hook is not None:
            text = self._hook(text)
            if not isinstance(text, str):
                raise TypeError("the redaction hook must return text")
        return text

    def _masked(self, text: str) -> str:
        """A JSON document without secrets; the text as it was if it had none."""
        document = json.loads(text)  # unlike orjson, exact for integers of any size
        masked = self._walk(document)
        return text if masked == document else _dumps(masked)

    def _walk(self, value: Any, credential: bool = False) -> Any:
        if isinstance(value, dict):
            return {key: self._walk(item, self._secrets and names_a_credential(key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._walk(item, credential) for item in value]
        if credential and value and isinstance(value, str | int | float) and value is not True:
            return mask("credential")
        if isinstance(value, str):
            return self._plain(value) if _document(value) is None else self._masked(value)
        return value


def _document(text: str) -> Any:
    """The JSON object, list or string that *text* is, None if it is anything else."""
    if not text.startswith(_JSON_STARTS):
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _is_number(text: str | None) -> bool:
    """Whether *text* is a JSON number, boolean or null: nothing to redact, and it must stay JSON."""
    if text is None or text.startswith(_JSON_STARTS):
        return False
    try:
        orjson.loads(text)
    except ValueError:
        return False
    return True


def _dumps(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _are_harmless(texts: Sequence[str]) -> bool:
    """Whether none of *texts* can hold a secret. False may be wrong, True never is."""
    if is_suspect("\n".join(texts)):  # no shape is hidden by a line break, or by what stands behind it
        return False
    try:
        for text in texts:
            document = _document(text)
            if may_hold_quoted(text) if document is None else _has_credential(document, "\\" in text):
                return False
    except RecursionError:
        return False
    return True


def _has_credential(value: Any, escapes: bool = True) -> bool:
    """Whether a JSON document, or one written as text inside it, has a value under the name of a credential.

    Names in text inside a document have their quotes escaped: text without *escapes* has none to look for.
    """
    kind = type(value)  # orjson makes no subclasses
    if kind is str:
        return value[:1] in _JSON_STARTS and (nested := _document(value)) is not None and _has_credential(nested)
    if kind is dict:
        if name_credentials(value) and any(value[key] for key in value if names_a_credential(key)):
            return True
        value = value.values()
    elif kind is not list:
        return False
    for item in value:
        if type(item) is str and not (escapes and item[:1] in _JSON_STARTS):
            continue  # nearly all are: not worth a call
        if _has_credential(item, escapes):
            return True
    return False


def _attributes_only(body: str) -> str:
    """A log record's body without what it says, its attributes without prose."""
    document = _document(body)
    attributes = _identifiers(document.get("attributes")) if isinstance(document, dict) else None
    return _dumps({"attributes": attributes or {}, "body": None})


def _without_prose(text: str) -> str | None:
    """A JSON object reduced to numbers and identifiers: what says how much and which, not what was said."""
    document = _document(text)
    return _dumps(_identifiers(document)) if isinstance(document, dict) else None


def _identifiers(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        kept = {name: _identifiers(item, name) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item is not None}
    if isinstance(value, list):
        return [item for each in value if (item := _identifiers(each, key)) is not None]
    if isinstance(value, str):
        is_one_word = (
            not value.startswith(_JSON_STARTS) and len(value) <= _LONGEST_IDENTIFIER and len(value.split()) == 1
        )
        return value if is_one_word and not _CONTENT_KEY.search(key) else None
    return value
