"""Providers' names: every spelling seen in real spans becomes one word."""

import pytest

from spanledger.exporter.providers import _normalise, normalise, provider_from_address, provider_from_model


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (said, name)
        for name, spellings in {
            "openai": ["openai", "OpenAI", "openai.chat", "openai.responses", "openai.embedding", "open_ai"],
            "azure": [
                "azure",
                "azure.ai.openai",
                "az.ai.openai",
                "azure.ai.inference",
                "azure_openai",
                "azure-openai.chat",
            ],
            "anthropic": ["anthropic", "Anthropic", "anthropic.messages"],
            "bedrock": ["aws.bedrock", "aws", "amazon-bedrock", "amazon_bedrock", "AWS", "bedrock_converse"],
            "google": ["gcp.gemini", "gemini", "gcp.gen_ai", "gcp.vertex_ai", "google_genai", "google", "google-vertex"]
            + [
                "google.generative-ai",
                "google.vertex.chat",
                "vertex_ai",
                "vertex_ai_beta",
                "google-gla",
                "google_vertexai",
            ],
            "mistral": ["mistral_ai", "MistralAI", "mistralai", "mistral.chat"],
            "cohere": ["cohere", "Cohere", "cohere_chat"],
            "deepseek": ["deepseek", "deepseek.chat"],
            "groq": ["groq", "Groq"],
            "xai": ["x_ai", "xai", "x-ai", "xai.chat", "x.ai"],
            "perplexity": ["perplexity"],
            "ollama": ["ollama", "Ollama"],
            "together": ["together", "together_ai", "togetherai.chat"],
            "fireworks": ["fireworks", "fireworks_ai"],
            "openrouter": ["openrouter"],
            "watsonx": ["ibm.watsonx.ai", "watsonx"],
            "moonshot": ["moonshot_ai", "moonshotai"],
            "acme-llm": ["Acme-LLM"],
        }.items()
        for said in spellings
    ],
)
def test_every_spelling_of_a_provider_is_one_name(said: str, name: str) -> None:
    assert normalise(said) == name


@pytest.mark.parametrize(
    "framework",
    ["strands-agents", "langchain", "Langchain", "langgraph", "crewai", "autogen", "microsoft.agent_framework"]
    + ["haystack", "llama_index", "litellm", "unknown", "", None, "  "],
)
def test_a_framework_in_the_providers_place_says_nothing(framework: str | None) -> None:
    assert normalise(framework, None, None) == "unknown"
    assert normalise(framework, None, "claude-sonnet-4-5") == "anthropic"
    assert normalise(framework, "api.groq.com", "openai/gpt-oss-120b") == "groq"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("https://my-resource.openai.azure.com/openai/deployments/x", "azure"),
        ("my-resource.services.ai.azure.com", "azure"),
        ("api.anthropic.com", "anthropic"),
        ("generativelanguage.googleapis.com", "google"),
        ("us-central1-aiplatform.googleapis.com", "google"),
        ("aiplatform.googleapis.com", "google"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock"),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com:443/model/x", "bedrock"),
        ("api.groq.com", "groq"),
        ("API.DeepSeek.com", "deepseek"),
        ("openrouter.ai", "openrouter"),
        ("api.mistral.ai", "mistral"),
        ("api.together.xyz", "together"),
        ("api.x.ai", "xai"),
        ("router.huggingface.co", "huggingface"),
        ("127.0.0.1", None),
        ("localhost:11434", None),
        ("storage.googleapis.com", None),
        ("s3.us-east-1.amazonaws.com", None),
        ("notopenai.com", None),
        ("openai.com.evil.example", None),
        ("", None),
        (None, None),
    ],
)
def test_a_host_belongs_to_a_provider_or_to_nobody_we_know(address: str | None, name: str | None) -> None:
    assert provider_from_address(address) == name


def test_a_known_host_beats_the_wire_format_it_speaks_and_no_other_word() -> None:
    assert normalise("openai", "api.groq.com", "llama-3.3-70b-versatile") == "groq"
    assert normalise("anthropic", "bedrock-runtime.us-east-1.amazonaws.com") == "bedrock"
    assert normalise("openai", "127.0.0.1", "claude-sonnet-4-5") == "openai"
    assert normalise("mistral_ai", "api.openai.com") == "mistral"
    assert normalise(None, "api.deepseek.com", "gpt-4o") == "deepseek"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (model, name)
        for name, models in {
            "openai": ["gpt-4o-mini", "gpt-5.1", "o1", "o3-mini", "o4-mini-2025-04-16", "chatgpt-4o-latest"]
            + ["text-embedding-3-small", "ft:gpt-4o-mini-2024-07-18:org::id", "openai/gpt-4o", "litellm/openai/o1"],
            "anthropic": ["claude-sonnet-4-5", "anthropic/claude-3-haiku"],
            "google": [
                "gemini-2.5-flash",
                "models/gemini-2.5-pro",
                "gemini/gemini-2.5-flash",
                "vertex_ai/claude-opus-4",
            ],
            "bedrock": ["amazon.nova-lite-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock/x"]
            + ["arn:aws:bedrock:us-east-1:1:inference-profile/abc", "meta.llama3-8b-instruct-v1:0"],
            "mistral": ["mistral-small-latest", "codestral-2508", "open-mixtral-8x22b"],
            "cohere": ["command-a-03-2025", "command", "rerank-v3.5", "embed-v4.0"],
            "deepseek": ["deepseek-chat", "deepseek-v3.2"],
            "xai": ["grok-4"],
            "perplexity": ["sonar", "sonar-pro"],
        }.items()
        for model in models
    ],
)
def test_a_model_family_belongs_to_its_vendor(model: str, name: str) -> None:
    assert provider_from_model(model) == name


@pytest.mark.parametrize(
    "model",
    ["llama3.2", "gpt-oss-120b", "gpt-j-6b", "mistral:7b", "deepseek-r1:14b", "acme/gpt-4", "ollie", "o10", "", None],
)
def test_open_weights_and_strangers_belong_to_nobody(model: str | None) -> None:
    assert provider_from_model(model) is None
    assert normalise(None, None, model) == "unknown"


def test_long_names_do_not_fill_the_memory() -> None:
    _normalise.cache_clear()
    for number in range(100):
        normalise(f"{number}" * 100_000, f"{number}" * 100_000, f"{number}" * 100_000)
    provider = normalise("p" * 100_000)
    assert len(provider) <= 256
