"""Who served a model: every spelling of a provider's name, its API hosts and its model families → one lower-case name.

The names are the values of the column ``provider``. Spans disagree about them (``OpenAI``, ``openai.chat``,
``gcp.gemini``), put a framework where the provider belongs (``langgraph``), or name a wire format: everything that
speaks OpenAI's protocol calls itself ``openai``. So a known host beats such a claim, and the model id decides last.
"""

import re
from functools import lru_cache
from typing import Final

UNKNOWN: Final = "unknown"
_LONGEST: Final = 256
"""Characters that are looked at, so that the cache is bounded in bytes, too."""

_SPELLINGS: Final = {
    "ai21": "ai21, ai21-labs",
    "alibaba": "alibaba, alibaba-cloud, dashscope, qwen, tongyi",
    "anthropic": "anthropic, anthropic-text, claude",
    "azure": "azure, azure-openai, azure-ai, azure-text, azure-ai-foundry, azure-foundry, azure-cognitive-services, "
    "azure.ai.openai, azure.ai.inference, azure.openai, az.ai.openai, az.ai.inference, azureopenai",
    "baseten": "baseten",
    "bedrock": "bedrock, bedrock-converse, aws, aws.bedrock, aws-bedrock, amazon, amazon-bedrock, amazon.bedrock",
    "cerebras": "cerebras",
    "cloudflare": "cloudflare, workers-ai, cloudflare-workers-ai",
    "cohere": "cohere, cohere-chat, cohere-ai",
    "databricks": "databricks",
    "deepinfra": "deepinfra",
    "deepseek": "deepseek, deepseek-ai",
    "fireworks": "fireworks, fireworks-ai, fireworksai",
    "github": "github, github-models",
    "google": "google, gcp, gemini, gcp.gemini, gcp.gen-ai, gcp.vertex-ai, google-genai, google-generativeai, "
    "google-generative-ai, google-ai, google-ai-studio, google-vertex, google-vertexai, google-vertex-ai, google-gla, "
    "google.generative-ai, google.vertex, vertex, vertexai, vertex-ai, vertex-ai-beta, google-anthropic-vertex",
    "groq": "groq",
    "huggingface": "huggingface, hugging-face, hf, huggingface-hub",
    "jina": "jina, jinaai, jina-ai",
    "minimax": "minimax",
    "mistral": "mistral, mistralai, mistral-ai",
    "moonshot": "moonshot, moonshotai, moonshot-ai, kimi",
    "nvidia": "nvidia, nvidia-nim, nim",
    "ollama": "ollama, ollama-chat",
    "openai": "openai, open-ai, openai-responses, openai-chat, azure-openai-compatible, text-completion-openai",
    "openrouter": "openrouter, open-router",
    "perplexity": "perplexity, perplexityai, perplexity-ai",
    "replicate": "replicate",
    "sagemaker": "sagemaker, sagemaker-chat, aws.sagemaker",
    "sambanova": "sambanova, sambanova-ai",
    "together": "together, togetherai, together-ai",
    "voyage": "voyage, voyageai, voyage-ai",
    "watsonx": "watsonx, ibm, ibm.watsonx.ai, ibm-watsonx, ibm.watsonx, watsonx.ai",
    "xai": "xai, x-ai, x.ai, grok",
    "zhipu": "zhipu, zhipuai, zai, z-ai, bigmodel",
}
_NAMES: Final = {spelling: name for name, list_ in _SPELLINGS.items() for spelling in list_.split(", ")}

_NOT_PROVIDERS: Final = frozenset(
    # Frameworks and gateways that write themselves where the provider belongs, and words that say nothing.
    [
        "ag2",
        "agno",
        "autogen",
        "autogen-core",
        "beeai",
        "claude-agent-sdk",
        "crewai",
        "custom",
        "dspy",
        "gateway",
        "google-adk",
        "haystack",
        "instructor",
        "langchain",
        "langgraph",
        "langsmith",
        "litellm",
        "litellm-proxy",
        "llama-index",
        "llamaindex",
        "llm",
        "mastra",
        "mcp",
        "microsoft.agent-framework",
        "microsoft.agents.ai",
        "none",
        "null",
        "openai-agents",
        "pydantic-ai",
        "semantic-kernel",
        "smolagents",
        "spanledger",
        "strands",
        "strands-agents",
        "swarm",
        "traceloop",
        "undefined",
        "unknown",
        "vercel",
        "vercel-ai",
    ]
)

# Clients of these two wire formats are pointed at other hosts all the time, so a host we know beats their word.
_WIRE_FORMATS: Final = frozenset({"openai", "anthropic"})

_HOSTS: Final = {
    "ai.azure.com": "azure",
    "api.ai21.com": "ai21",
    "aiplatform.googleapis.com": "google",
    "anthropic.com": "anthropic",
    "api.cloudflare.com": "cloudflare",
    "azuredatabricks.net": "databricks",
    "bigmodel.cn": "zhipu",
    "cerebras.ai": "cerebras",
    "cloud.databricks.com": "databricks",
    "cognitiveservices.azure.com": "azure",
    "cohere.ai": "cohere",
    "cohere.com": "cohere",
    "dashscope.aliyuncs.com": "alibaba",
    "dashscope-intl.aliyuncs.com": "alibaba",
    "deepinfra.com": "deepinfra",
    "deepseek.com": "deepseek",
    "fireworks.ai": "fireworks",
    "generativelanguage.googleapis.com": "google",
    "groq.com": "groq",
    "huggingface.co": "huggingface",
    "inference.ai.azure.com": "azure",
    "inference.baseten.co": "baseten",
    "integrate.api.nvidia.com": "nvidia",
    "jina.ai": "jina",
    "minimax.io": "minimax",
    "minimaxi.com": "minimax",
    "mistral.ai": "mistral",
    "ml.cloud.ibm.com": "watsonx",
    "models.github.ai": "github",
    "moonshot.ai": "moonshot",
    "moonshot.cn": "moonshot",
    "openai.azure.com": "azure",
    "openai.com": "openai",
    "openrouter.ai": "openrouter",
    "perplexity.ai": "perplexity",
    "replicate.com": "replicate",
    "sambanova.ai": "sambanova",
    "together.ai": "together",
    "together.xyz": "together",
    "voyageai.com": "voyage",
    "x.ai": "xai",
    "z.ai": "zhipu",
}
_BEDROCK_HOST: Final = re.compile(r"bedrock[a-z0-9-]*\.[a-z0-9-]+\.(?:amazonaws\.com(?:\.cn)?|api\.aws)")
_VERTEX_HOST: Final = re.compile(r"[a-z0-9-]+-aiplatform\.googleapis\.com")

BEDROCK_ID: Final = re.compile(
    r"(?:arn:aws[a-z-]*:bedrock:.*|(?:(?:us|us-gov|eu|apac|ap|jp|au|in|ca|sa|global)\.)?"
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|luma|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|"
    r"qwen|stability|twelvelabs|writer|zai)\.[a-z].*)"
)
"""A model id of Amazon Bedrock: an ARN, or ``[region.]vendor.model``."""

# Families a provider serves under its own name. Open weights that everybody serves (llama, gpt-oss, gemma) say nothing.
_FAMILIES: Final = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"(?:ft:)?(?:gpt-(?=\d|audio|chat|image|live|realtime|transcribe)|(?:davinci|babbage)-002)", "openai"),
        (r"(?:ft:)?o[1345](?:-|$)", "openai"),
        (r"chatgpt-|codex-|computer-use|dall-e|omni-moderation|text-davinci|tts-1|whisper-1", "openai"),
        (r"text-embedding-(?:3|ada)|text-moderation", "openai"),
        (r"claude-", "anthropic"),
        (r"gemini-|imagen-|learnlm|veo-|text-(?:multilingual-)?embedding-0", "google"),
        (r"(?:open-)?mi[sx]tral-|codestral|devstral-|magistral-|ministral-|pixtral-|voxtral-", "mistral"),
        (r"command(?:-|$)|embed-(?:english|multilingual|v\d)|rerank-|c4ai-", "cohere"),
        (r"deepseek-(?:chat|reasoner|coder|v\d)", "deepseek"),
        (r"grok-", "xai"),
        (r"sonar(?:-|$)|pplx-", "perplexity"),
        (r"kimi-|moonshot-", "moonshot"),
        (r"voyage-", "voyage"),
        (r"jina-", "jina"),
        (r"jamba-|j2-", "ai21"),
        (r"glm-", "zhipu"),
        (r"qwen-(?:plus|max|turbo|flash|long)|qwen3?-max", "alibaba"),
        (r"accounts/fireworks/", "fireworks"),
        (r"@cf/", "cloudflare"),
    )
)


def normalise(provider: str | None, address: str | None = None, model: str | None = None) -> str:
    """The name of the provider for what a span says, ``"unknown"`` if nothing says it.

    *provider* is ``gen_ai.provider.name``, ``gen_ai.system`` or a dialect's equivalent; *address* is
    ``server.address`` or a URL; *model* is any model id. A provider we have never heard of keeps its own name.
    """
    return _normalise(provider and provider[:_LONGEST], address and address[:_LONGEST], model and model[:_LONGEST])


@lru_cache(maxsize=4096)
def _normalise(provider: str | None, address: str | None, model: str | None) -> str:
    stated = provider_from_name(provider)
    if stated is None or stated in _WIRE_FORMATS:
        host = provider_from_address(address)
        stated = host if host is not None else stated
    return stated or provider_from_model(model) or UNKNOWN


def provider_from_name(text: str | None) -> str | None:
    """The provider a span's own word means; None for a framework's name or no word at all."""
    word = (text or "").strip().lower().replace("_", "-").replace(" ", "-")
    while word:
        if word in _NOT_PROVIDERS:
            return None
        if name := _NAMES.get(word):
            return name
        word, dot, _ = word.rpartition(".")  # openai.chat, anthropic.messages, google.generative-ai.embedding
        if not dot:
            break
    return (text or "").strip().lower() or None


def provider_from_address(address: str | None) -> str | None:
    """The provider behind a host name or URL, None for hosts we do not know (a proxy, a local server)."""
    if not address:
        return None
    host = address.strip().lower().rpartition("://")[2].partition("/")[0].partition(":")[0].rstrip(".")
    if _BEDROCK_HOST.fullmatch(host):
        return "bedrock"
    if _VERTEX_HOST.fullmatch(host):
        return "google"
    while host:
        if name := _HOSTS.get(host):
            return name
        host = host.partition(".")[2]
    return None


def provider_from_model(model: str | None) -> str | None:
    """The provider a model id belongs to by its family or vendor prefix; None if many serve it."""
    name = (model or "").strip().lower()
    if BEDROCK_ID.fullmatch(name):
        return "bedrock"
    vendor, slash, rest = name.partition("/")
    if slash and (known := _NAMES.get(vendor.replace("_", "-"))):
        return known
    if slash and vendor in ("models", "litellm", "litellm_proxy"):
        return provider_from_model(rest)
    if ":" in name and not name.startswith("ft:"):
        return None  # mistral:7b is a tag of a local server, not the vendor's model
    return next((provider for family, provider in _FAMILIES if family.match(name)), None)
