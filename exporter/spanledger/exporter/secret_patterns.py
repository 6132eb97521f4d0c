"""Credentials in text: the shapes of API keys, tokens and passwords, found and masked in linear time.

Every pattern starts at a literal, may not start inside a run of its own characters, and repeats only possessively or
with a small bound, so no input makes it scan a text twice (the tests measure it). Masks contain neither quotes nor
backslashes, and no match ends inside a JSON escape, so masked JSON text stays JSON.
"""

import re
import string
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

# Prefixes whose tail is one unbroken run of letters and digits: identifiers in snake_case never have one that long.
_PLAIN: Final = {
    "sk-": "api key",  # OpenAI before projects, DeepSeek, and many that copied it
    "ghp_": "github token",
    "gho_": "github token",
    "ghu_": "github token",
    "ghs_": "github token",
    "ghr_": "github token",
    "hf_": "huggingface token",
    "sk_live_": "stripe key",
    "sk_test_": "stripe key",
    "rk_live_": "stripe key",
    "rk_test_": "stripe key",
    "whsec_": "webhook secret",
    "gsk_": "groq key",
    "xai-": "xai key",
    "pplx-": "perplexity key",
    "r8_": "replicate token",
    "npm_": "npm token",
    "dop_v1_": "digitalocean token",
    "shpat_": "shopify token",
    "shpss_": "shopify secret",
    "lin_api_": "linear key",
    "ntn_": "notion token",
    "sbp_": "supabase token",
    "nvapi-": "nvidia key",
}
# Prefixes whose tail may contain dashes and underscores.
_DASHED: Final = {
    "sk-proj-": "openai key",
    "sk-svcacct-": "openai key",
    "sk-admin-": "openai key",
    "sk-ant-": "anthropic key",
    "sk-or-": "openrouter key",
    "sk-lf-": "langfuse key",
    "github_pat_": "github token",
    "glpat-": "gitlab token",
    "gldt-": "gitlab token",
    "glrt-": "gitlab token",
    "glptt-": "gitlab token",
    "xoxa-": "slack token",
    "xoxb-": "slack token",
    "xoxe-": "slack token",
    "xoxp-": "slack token",
    "xoxr-": "slack token",
    "xoxs-": "slack token",
    "xapp-": "slack token",
    "pypi-": "pypi token",
    "dckr_pat_": "docker token",
    "GOCSPX-": "google secret",
    "lsv2_pt_": "langsmith key",
    "lsv2_sk_": "langsmith key",
    "pcsk_": "pinecone key",
    "tvly-": "tavily key",
    "glsa_": "grafana token",
    "sl_": "spanledger key",
}
_KINDS: Final = {**_PLAIN, **_DASHED}

# How the names of things that hold a credential end: JSON keys, variables, parameters. Without case; _ may be - or
# missing. "token" alone is not here: a list of log probabilities has a "token" for every word.
_NAMES: Final = (
    *("access_key", "account_key", "api_key", "private_key", "secret_key", "signing_key"),
    *("access_token", "api_token", "auth_token", "bearer_token", "id_token", "refresh_token", "session_token"),
    *("authorization", "connection_string", "cookie", "credential", "credentials"),
    *("passphrase", "passwd", "password", "pwd", "secret"),
)
_LONGEST_NAME: Final = 32
_end_of: Final = itemgetter(slice(-_LONGEST_NAME, None))
_COMPACT_NAMES: Final = tuple(name.replace("_", "") for name in _NAMES)


def names_a_credential(key: str) -> bool:
    """Whether a value under this name is a credential: ``password``, ``X-Api-Key``, ``OPENAI_API_KEY``."""
    return _ends_like_a_credential(_end_of(key))


def name_credentials(keys: Iterable[str]) -> bool:
    """Whether a value under one of these names is a credential. Runs over every document, hence without a loop."""
    return any(map(_ends_like_a_credential, map(_end_of, keys)))


@lru_cache(maxsize=4096)
def _ends_like_a_credential(key: str) -> bool:
    return key.lower().replace("_", "").replace("-", "").replace(" ", "").endswith(_COMPACT_NAMES)


def mask(kind: str) -> str:
    """What stands where a credential stood."""
    return f"[REDACTED {kind}]"


def _alternatives(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _preceded_by(words: Iterable[str], end: str = "") -> str:
    """Lookbehinds for any of *words* and *end*, one for each length (their width is fixed)."""
    groups = groupby(sorted(words, key=len), key=len)
    return "(?:" + "|".join(rf"(?<=(?:{_alternatives(group)}){end})" for _, group in groups) + ")"


def _after_a_name(end: str) -> str:
    """A lookbehind for the name of a credential and *end*, a pattern of fixed width."""
    spelled = {name.replace("_", joint) for name in _NAMES for joint in "_- "} | set(_COMPACT_NAMES)
    letters = "".join(sorted({name[-1] for name in _NAMES}))
    rare = _preceded_by({name[-3:] for name in _NAMES}, end)
    return rf"(?<=[{letters}]{end})" + rare + _preceded_by(spelled, end)  # most often the first says no


def _is_random(text: str) -> bool:
    """Whether it has digits and letters: words joined by dashes do not."""
    return any(map(str.isdigit, text)) and any(map(str.isalpha, text))


def _prefixed(match: re.Match[str]) -> str:
    prefix, tail = (match[1], match[2]) if match[1] else (match[3], match[4])
    return mask(_KINDS[prefix]) if _is_random(tail) else match[0]


def _random_tail(kind: str) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        return match[1] + mask(kind) if _is_random(match[2]) else match[0]

    return replace


def _assigned(match: re.Match[str]) -> str:
    return match[0] if match[2].lower() in ("none", "null", "true", "false") else match[1] + mask("credential")


def _private_key(match: re.Match[str]) -> str:
    return mask("private key") if match[1] else match[0]


class Shape(NamedTuple):
    """A kind of credential: *suspect* tells cheaply that a text may hold one, *pattern* finds it.

    Of a *random* one, what matches holds `RUN` key characters in a row, so `runs` is all of a text that is searched.
    """

    suspect: Callable[[str], object]
    pattern: re.Pattern[str]
    replace: Callable[[re.Match[str]], str] | str
    random: bool = True


def _contains(*words: str) -> Callable[[str], object]:
    def suspect(text: str) -> bool:
        for word in words:  # noqa: SIM110 - a generator doubles the cost of what runs over every text
            if word in text:
                return True
        return False

    return suspect


_OUTSIDE: Final = r"(?<![A-Za-z0-9_+-])"

SHAPES: Final = (
    Shape(
        # Dotted names run long, too; a dash or underscore before a long tail without dots is rare.
        re.compile(rf"[-_](?=[A-Za-z0-9_-]{{16}}){_preceded_by(_KINDS)}").search,
        re.compile(
            rf"{_OUTSIDE}(?:({_alternatives(_DASHED)})([A-Za-z0-9_-]{{16,}}+)"
            rf"|({_alternatives(_PLAIN)})([A-Za-z0-9]{{16,}}+))"
        ),
        _prefixed,
    ),
    Shape(
        _contains("AKIA", "ASIA"),
        re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
        mask("aws key"),
    ),
    Shape(_contains("AIza"), re.compile(_OUTSIDE + r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"), mask("google key")),
    Shape(_contains("ya29."), re.compile(_OUTSIDE + r"ya29\.[A-Za-z0-9_-]{20,}+"), mask("google token")),
    Shape(
        _contains("eyJ"),
        re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]{8,}+){2}(?:\.[A-Za-z0-9_-]*+){0,2}"),
        mask("jwt"),
    ),
    Shape(_contains("dapi"), re.compile(r"(?<![A-Za-z0-9])dapi[0-9a-f]{32}(?![A-Za-z0-9])"), mask("databricks token")),
    Shape(
        _contains("hooks.slack.com/"),
        re.compile(r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,}+"),
        "hooks.slack.com/services/" + mask("slack webhook"),
    ),
    Shape(
        lambda text: "-" in text and "PRIVATE KEY" in text,
        # Up to its end, or as far as lines of base64 go where the end was cut off. No body crosses five dashes.
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"((?:[A-Za-z0-9+/=\s:,.()]|-(?!----)|\\++[nrt])*+-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"|(?:(?:\s|\\++[nr])*+[A-Za-z0-9+/=]{40,}+)++)?"
        ),
        _private_key,
        random=False,
    ),
    Shape(
        lambda text: "@" in text and "://" in text,
        re.compile(r"(://[^\s:/@\"'\\?#<>]{0,100}:)[^\s/\"'\\?#<>]{1,256}(?=@)"),
        lambda match: match[1] + mask("password"),
        random=False,
    ),
    Shape(
        _contains("earer "),
        re.compile(r"(\b[Bb]earer {1,4})([A-Za-z0-9._~+/-]{16,}+={0,2})"),
        _random_tail("token"),
    ),
    Shape(
        lambda text: "uthorization: " in text or ("-" in text and ("pi-key: " in text or "pi-Key: " in text)),
        re.compile(
            r"((?:authorization: {1,4}(?:basic|digest|token|apikey) {1,4}|api-key: {1,4}))([A-Za-z0-9._~+/=-]{6,}+)",
            re.I,
        ),
        _assigned,
        random=False,
    ),
    Shape(
        lambda text: "=" in text and ("?" in text or "&" in text),
        re.compile(r"([?&](?:[a-zA-Z-]{0,20}(?:token|ignature)|sig|key)=)([A-Za-z0-9%._~+/=-]{16,}+)"),
        _random_tail("credential"),
    ),
    Shape(
        _contains("="),
        re.compile(
            rf"(=(?:{_after_a_name('=')}|{_after_a_name(' =')}) ?[\"']?)(?!=)"
            rf"([^\s\"'\\&;,()\[\]{{}}<>]{{4,400}}+)(?![\[(])",
            re.I,
        ),
        _assigned,
        random=False,
    ),
)

_RANDOM: Final = tuple(shape for shape in SHAPES if shape.random)
_STATED: Final = tuple(shape for shape in SHAPES if not shape.random)

# A quoted name before a quoted value, for text that is not a JSON document (in one, the keys are asked).
_QUOTED: Final = Shape(
    lambda text: ":" in text and ('":' in text or "':" in text),
    re.compile(rf"([\"']{_after_a_name('.')}: ?[\"'])([^\"'\\\n]{{1,400}}+)(?=[\"'])", re.I),
    _assigned,
    random=False,
)

may_hold_quoted: Final = _QUOTED.suspect

RUN: Final = 16
_BEFORE: Final = len(" Bearer    ")
"""Characters in front of a run that may belong to a credential, or decide whether it is one."""
_KEY_CHARACTERS: Final = (string.ascii_letters + string.digits + "-_.~+/=%").encode()
_OUTLINE: Final = bytes(ord("x") if byte in _KEY_CHARACTERS else ord(" ") for byte in range(256))
_SHORTEST: Final = b"x" * RUN


def runs(text: str) -> str:
    """Every run of at least `RUN` key characters in *text* with what stands before it, one a line.

    Prose has hardly any, and they are found at memory speed: under 1 ns a character.
    """
    outline = text.encode("ascii", "replace").translate(_OUTLINE)  # one byte for every character, also outside ASCII
    start = outline.find(_SHORTEST)
    found = []
    while start >= 0:
        end = outline.find(b" ", start + RUN)
        if end < 0:
            end = len(outline)
        found.append(text[max(0, start - _BEFORE) : end])
        start = outline.find(_SHORTEST, end)
    return "\n".join(found)


def is_suspect(text: str) -> bool:
    """Whether a JSON document is worth taking apart for `mask_secrets`. Cheap: a few passes at memory speed."""
    in_runs = runs(text)
    return bool(in_runs and _finds(_RANDOM, in_runs)) or _finds(_STATED, text)


def _finds(shapes: Iterable[Shape], text: str) -> bool:
    for suspect, pattern, _, _ in shapes:  # noqa: SIM110 - a generator doubles the cost of what runs over every text
        if suspect(text) and pattern.search(text):
            return True
    return False


def mask_secrets(text: str) -> str:
    """*text* with every credential replaced by a mask that says what it was."""
    in_runs = runs(text)
    for suspect, pattern, replace, random in (*SHAPES, _QUOTED):
        searched = in_runs if random else text
        if searched and suspect(searched):
            text, found = pattern.subn(replace, text)
            in_runs = runs(text) if found else in_runs
    return text
