"""Credentials are found in every shape and place, ordinary text is left alone, and no text takes long."""

import random
import re
import string
import time
import uuid
from collections.abc import Callable

import orjson
import pytest

from spanledger.exporter.secret_patterns import SHAPES, is_suspect, mask_secrets, runs

ALNUM = string.ascii_letters + string.digits
DASHED = ALNUM + "-_"
UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
MIB = 1 << 20


def tail(length: int, alphabet: str = ALNUM, seed: int = 7) -> str:
    """Made up here, so that no scanner of this repository takes a test for a leak."""
    letters = random.Random(seed).choices(alphabet, k=length - 2)
    return "a" + "".join(letters) + "7"


def jwt() -> str:
    return f"eyJ{tail(30, DASHED)}.eyJ{tail(60, DASHED)}.{tail(43, DASHED)}"


def pem(kind: str = "RSA ", lines: int = 3) -> str:
    body = "\n".join(tail(64, ALNUM + "+/") for _ in range(lines))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"


# What it is → text with the credential → the credential itself, of which nothing may be left.
SECRETS: dict[str, tuple[str, str]] = {
    name: (text.replace("%", secret), secret)
    for name, text, secret in [
        ("openai legacy", "%", "sk-" + tail(48)),
        ("openai project", "key: %.", "sk-proj-" + tail(120, DASHED)),
        ("openai service account", "(%)", "sk-svcacct-" + tail(60, DASHED)),
        ("openai admin", "%", "sk-admin-" + tail(60, DASHED)),
        ("anthropic", "x %", "sk-ant-api03-" + tail(95, DASHED)),
        ("openrouter", "%", "sk-or-v1-" + tail(64, HEX)),
        ("langfuse", "%", "sk-lf-" + str(uuid.UUID(int=0xA1B2C3D4 << 90 | 7))),
        ("deepseek", "%", "sk-" + tail(32, HEX)),
        ("groq", "%", "gsk_" + tail(52)),
        ("xai", "%", "xai-" + tail(80)),
        ("perplexity", "%", "pplx-" + tail(48)),
        ("replicate", "%", "r8_" + tail(37)),
        ("nvidia", "%", "nvapi-" + tail(64)),
        ("huggingface", "%", "hf_" + tail(34)),
        ("aws access key", "id %,", "AKIA" + tail(16, UPPER).upper()),
        ("aws session key", "%", "ASIA" + tail(16, UPPER).upper()),
        ("aws secret key", "aws_secret_access_key = %", tail(40, ALNUM + "/+")),
        ("aws secret in env", "AWS_SECRET_ACCESS_KEY=%", tail(40, ALNUM + "/+")),
        ("github personal", "%", "ghp_" + tail(36)),
        ("github oauth", "%", "gho_" + tail(36)),
        ("github server", "%", "ghs_" + tail(36)),
        ("github refresh", "%", "ghr_" + tail(36)),
        ("github in a url", "https://%@github.com/a/b", "ghu_" + tail(36)),
        ("github fine-grained", "%", "github_pat_" + tail(22) + "_" + tail(59)),
        ("gitlab personal", "%", "glpat-" + tail(20, DASHED)),
        ("gitlab runner", "%", "glrt-" + tail(20, DASHED)),
        ("slack bot", "%", "xoxb-123456789012-1234567890123-" + tail(24)),
        ("slack user", "%", "xoxp-1234567890-1234567890-" + tail(32)),
        ("slack app", "%", "xapp-1-A012345-1234567890-" + tail(64, HEX)),
        ("slack webhook", "https://hooks.slack.com/services/%", "T012345/B012345/" + tail(24)),
        ("google api key", "https://x.example/?key=%&a=b", "AIza" + tail(35, DASHED)),
        ("google oauth", "%", "ya29." + tail(60, DASHED)),
        ("google client secret", "%", "GOCSPX-" + tail(28, DASHED)),
        ("stripe live", "%", "sk_live_" + tail(24)),
        ("stripe restricted", "%", "rk_test_" + tail(24)),
        ("webhook secret", "%", "whsec_" + tail(32)),
        ("npm", "%", "npm_" + tail(36)),
        ("pypi", "%", "pypi-AgEIcHlwaS5vcmc" + tail(70, DASHED)),
        ("docker", "%", "dckr_pat_" + tail(27, DASHED)),
        ("digitalocean", "%", "dop_v1_" + tail(64, HEX)),
        ("databricks", "%", "dapi" + "a" + tail(31, HEX)),
        ("shopify", "%", "shpat_" + tail(32, HEX)),
        ("langsmith", "%", "lsv2_pt_" + tail(32, HEX) + "_" + tail(10, HEX)),
        ("our own key", "%", "sl_" + tail(12, HEX) + "_" + tail(43, DASHED)),
        ("jwt", "token %", jwt()),
        ("bearer header", "Authorization: Bearer %", tail(40)),
        ("bearer in curl", "curl -H 'authorization: bearer %' x", tail(40, DASHED)),
        ("basic header", "Authorization: Basic %", "dXNlcjpodW50ZXI="),
        ("api key header", "x-api-key: %", tail(20)),
        ("postgres url", "postgresql://app:%@db:5432/x", "hunter2"),
        ("redis url", "redis://:%@cache:6379/0", "p@ss:word"),
        ("sas url", "https://x.example/c?sv=1&sig=%&se=2", tail(40, ALNUM + "%")),
        ("query parameter", "https://x.example/?api_key=%&x=1", "hunter2hunter"),
        ("storage account", "AccountName=a;AccountKey=%;Suffix=b", tail(86, ALNUM + "+/") + "=="),
        ("environment", "OPENAI_API_KEY=%", "hunter2-hunter3"),
        ("keyword argument", 'Client(api_key="%")', "hunter2hunter"),
        ("python repr", "{'password': '%'}", "hunter2"),
        ("broken json", '{"a": 1, "client_secret": "%", ', "hunter2"),
        ("private key", "before %\nafter", pem()),
        ("ec key", "%", pem("EC ")),
        ("pkcs8 key", "%", pem("")),
        ("encrypted key", "%", pem("ENCRYPTED ")),
    ]
}


def test_the_corpus_is_large() -> None:
    assert len(SECRETS) >= 40


@pytest.mark.parametrize(("text", "secret"), SECRETS.values(), ids=SECRETS)
def test_a_credential_is_masked_and_the_text_around_it_kept(text: str, secret: str) -> None:
    masked = mask_secrets(text)
    before, _, after = text.partition(secret)
    assert masked.startswith(before)
    assert masked.endswith(after)
    rest = masked[len(before) : len(masked) - len(after)]
    assert "[REDACTED " in rest
    assert not any(piece in rest for piece in (secret[-6:], secret[len(secret) // 2 :][:8]))


@pytest.mark.parametrize(("text", "secret"), SECRETS.values(), ids=SECRETS)
def test_masking_twice_is_masking_once(text: str, secret: str) -> None:
    assert mask_secrets(mask_secrets(text)) == mask_secrets(text)


@pytest.mark.parametrize(("text", "secret"), SECRETS.values(), ids=SECRETS)
def test_json_text_stays_json_when_it_is_masked_as_text(text: str, secret: str) -> None:
    for document in ({"a": text, "n": [text, 1]}, {"arguments": orjson.dumps({"b": text}).decode()}):
        raw = orjson.dumps(document).decode()
        assert orjson.loads(mask_secrets(raw)).keys() == document.keys()


@pytest.mark.parametrize("name", ["openai project", "github personal", "aws access key", "jwt", "private key"])
def test_a_credential_inside_a_json_document_makes_it_suspect(name: str) -> None:
    assert is_suspect(orjson.dumps({"content": SECRETS[name][0]}).decode())


def test_a_private_key_that_was_cut_off_is_masked_as_far_as_it_goes() -> None:
    cut = pem().partition("\n-----END")[0]
    assert mask_secrets(cut + "\nand then prose") == "[REDACTED private key]\nand then prose"
    raw = orjson.dumps({"k": pem()}).decode()[:150]  # JSON cut in the middle: the newlines are two characters
    assert mask_secrets(raw) == '{"k":"[REDACTED private key]'


def test_what_a_random_shape_finds_it_finds_in_the_runs_of_the_text_alone() -> None:
    """Each shape in the texts made for it, behind every character that may decide, and in texts put together."""
    source, pieces = random.Random(11), [text for text, _ in SECRETS.values()]
    texts = [
        before + text + after for text in pieces for before in ("", *" \n.,:;=?&/-_+éx🎉") for after in ("", "é", "-")
    ]
    texts += ["".join(source.choices(pieces, k=4)) for _ in range(300)]
    for shape in filter(lambda shape: shape.random, SHAPES):
        matches = [text for text in texts if shape.pattern.search(text)]
        assert matches
        assert all(shape.suspect(runs(text)) and shape.pattern.search(runs(text)) for text in matches)


def test_prose_has_no_runs() -> None:
    assert [text for text in PROSE[:2] + PROSE[-1:] if runs(text)] == []
    assert runs("é\ud800🎉 id: 0123456789abcdef, é") == "é\ud800🎉 id: 0123456789abcdef"


PROSE = [
    "The password must have eight characters; a secret is better kept. Which token did you use?",
    "Please reset my password: I forgot it. The api key: where do I find it? Authorization is required.",
    "-----BEGIN PRIVATE KEY----- is how such a file starts, he said.",
    "task-oriented, desk-bound, risk-averse and ask-me-anything; sk-learn-is-not-what-it-is-called",
    "hf_hub_download_and_cache_the_files, xoxb-is-a-prefix-of-slack-tokens, sl_really_long_identifier_in_snake_case",
    "Bearer tokens are sent as Bearer <token>; see Bearer authentication-considerations-and-more.",
    "Basic understanding of responsibilities. Cookies and credentials matter.",
    "http://localhost:8318/path and https://example.com:443/a@b and user@example.com and ftp://host/x",
    "if password == other: pass; if secret==other: pass; password = None; secret=null; token = tokens[i]",
    "max_tokens=4096; api_key=os.environ['X']; key=lambda x: x; password=get_password()",
    "gpt-4o-mini-2024-07-18 claude-sonnet-4-5-20250929 us.anthropic.claude-3-5-haiku-20241022-v1:0",
    "chatcmpl-openaice1d7489dacf call_ce1d7489dacf_0 msg_01XFDUDYJgAACzvnptvVoYEL",
    "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b asst_abc123 thread_abc123 file-abc123DEF456",
    "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 v1.2.3-rc.1+build.5",
    '{"total_tokens": 12, "max_tokens": 5, "next_page_token": "abc"}',
    '{"logprobs": [{"token": "Hello", "logprob": -0.1}]}',
    "SELECT * FROM secrets WHERE key = 5 AND name LIKE '%key%'; SET search_path = app;",
    "AKIA is a prefix, AIza another, eyJ a third, ya29. a fourth and dapi a fifth.",
    "Straße, naïve, 日本語のテキスト, emoji 🎉, RTL \u202eabc\u202c, zero\x00byte",
]


@pytest.mark.parametrize("text", PROSE)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert mask_secrets(text) == text


def test_identifiers_and_binary_content_are_left_alone() -> None:
    source = random.Random(3)
    uuids = " ".join(str(uuid.UUID(int=source.getrandbits(128))) for _ in range(2000))
    hexes = " ".join(f"{source.getrandbits(128):032x}" for _ in range(2000))
    image = "data:image/png;base64," + "".join(source.choices(ALNUM + "+/", k=300_000)) + "=="
    for text in (uuids, hexes, image):
        assert mask_secrets(text) == text


# What each pattern starts with, half of what it wants, and what makes greedy patterns walk back.
ADVERSARIAL = [
    *("sk-", "sk-proj-", "a-sk-proj-", "glpat-", "hf_", "a-", "a_", "-", "_", "AKIA", "AIza", "ya29.", "dapi", "eyJ"),
    *("eyJaaaaaaaa.", "eyJaaaaaaaa.eyJaaaaaaaa-", "-----BEGIN ", "-----BEGIN RSA PRIVATE KEY-----", "PRIVATE KEY"),
    *("-----BEGIN PRIVATE KEY-----\\n", "-----BEGIN PRIVATE KEY-----\n" + "A" * 40 + "\n", "://", "://a:", "://:@"),
    *("://a:" + "b" * 250, "Bearer ", "Bearer a", "authorization: ", "Authorization: basic ", "api-key: "),
    *("hooks.slack.com/services/", "?token=", "&", "?a", "=", "y=", "oken=", "secret=", "password =", "password= x("),
    *("'password': '", "\"':", "y':", "secret'", "\\", '\\"', "a", "A", "0", " ", "\n", '="', "[REDACTED "),
]


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def filled(seed: str, size: int) -> str:
    return (seed * (size // len(seed) + 1))[:size]


@pytest.fixture(scope="module")
def scan() -> float:
    """CPU seconds of one plain regular expression over one MiB, on this machine, now."""
    pattern, text = re.compile(r"[a-z]+@[0-9]"), filled("lorem ipsum ", MIB)
    return min(cpu_seconds(lambda: pattern.search(text)) for _ in range(5))


@pytest.mark.parametrize("seed", ADVERSARIAL, ids=repr)
@pytest.mark.parametrize("work", [mask_secrets, is_suspect])
def test_no_text_takes_more_than_a_few_scans(work: Callable[[str], object], seed: str, scan: float) -> None:
    text = filled(seed, MIB)
    # Noise only adds time, so one quiet attempt is proof.
    assert any(cpu_seconds(lambda: work(text)) < 20 * scan for _ in range(5))


@pytest.mark.parametrize("seed", ADVERSARIAL, ids=repr)
def test_twice_the_text_takes_at_most_three_times_as_long(seed: str) -> None:
    half, whole = filled(seed, MIB // 8), filled(seed, MIB // 4)
    # Below a millisecond the clock measures itself; a quadratic pattern takes seconds here.
    assert any(
        cpu_seconds(lambda: mask_secrets(whole)) < 3 * cpu_seconds(lambda: mask_secrets(half)) + 0.001 for _ in range(5)
    )


def test_a_quadratic_pattern_would_be_caught(scan: float) -> None:
    slow, text = re.compile(r"eyJ[A-Za-z0-9_-]+\."), filled("eyJ", MIB // 16)
    assert cpu_seconds(lambda: slow.sub("", text)) > 20 * scan / 16
