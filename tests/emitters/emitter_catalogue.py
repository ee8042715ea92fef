"""Every emitter that is run: where it is installed, what drives it, and what it can show."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from environments import ENVIRONMENTS

_CLIENT: Final = ("question", "answer", "call", "result")
_WHO: Final = ("user", "conversation")
_ALL: Final = (*_CLIENT, "documents", "user", "conversation")
_GENAI_LATEST: Final = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
_CREWAI: Final = {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"}
_GENAI_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Emitter(NamedTuple):
    """One way of emitting. `shows` are the parts of the scenario that are read of what it sends.

    `unread` are parts that it sends where nobody would look for them; `why` says where. `more` counts
    exchanges that are no call of a model. `blind` says that it sends no texts of calls. `golden` marks
    a recording written by hand, from the maker's documents, of an emitter that cannot run here.
    """

    name: str
    environment: str
    package: str
    command: tuple[str, ...]
    shows: tuple[str, ...]
    environ: Mapping[str, str] = {}
    unread: tuple[str, ...] = ()
    more: int = 0
    why: str = ""
    blind: bool = False
    golden: bool = False

    @property
    def version(self) -> str:
        """The version of the package that emits."""
        return ENVIRONMENTS[self.environment].version(self.package)


EMITTERS: Final = (
    Emitter(
        "openai-v2",
        "openai",
        "opentelemetry-instrumentation-openai-v2",
        ("openai_chat.py", "genai"),
        _CLIENT,
        _GENAI_LATEST | {_GENAI_CONTENT: "SPAN_ONLY"},
    ),
    Emitter(
        "openai-v2-events",
        "openai",
        "opentelemetry-instrumentation-openai-v2",
        ("openai_chat.py", "genai"),
        _CLIENT,
        _GENAI_LATEST | {_GENAI_CONTENT: "EVENT_ONLY"},
    ),
    Emitter(
        "openai-v2-default",
        "openai",
        "opentelemetry-instrumentation-openai-v2",
        ("openai_chat.py", "genai"),
        (),
        blind=True,
    ),
    Emitter(
        "openai-openllmetry",
        "openai",
        "opentelemetry-instrumentation-openai",
        ("openai_chat.py", "openllmetry"),
        (*_CLIENT, "user"),
    ),
    Emitter(
        "openai-openinference",
        "openai",
        "openinference-instrumentation-openai",
        ("openai_chat.py", "openinference"),
        _ALL,
    ),
    Emitter(
        "openai-openinference-stream",
        "openai",
        "openinference-instrumentation-openai",
        ("openai_chat.py", "openinference", "stream"),
        _ALL,
    ),
    Emitter("openai-langfuse", "langchain", "langfuse", ("openai_sdk.py", "langfuse"), _ALL),
    Emitter(
        "openai-mlflow",
        "langchain",
        "mlflow-tracing",
        ("openai_sdk.py", "mlflow"),
        (*_CLIENT, "documents"),
        unread=("user",),
        why="the parameter user of the request",
    ),
    Emitter("openai-openlit", "openlit", "openlit", ("openai_sdk.py", "openlit"), (*_CLIENT, "user")),
    Emitter("openai-logfire", "pydantic", "logfire", ("logfire_openai.py",), _CLIENT),
    *(
        Emitter(
            f"pydantic-ai-{n}",
            "pydantic",
            "pydantic-ai-slim",
            ("pydantic_agent.py", str(n)),
            (*_CLIENT, "conversation"),
        )
        for n in (2, 3, 5)
    ),
    Emitter(
        "langchain-langsmith",
        "langchain",
        "langsmith",
        ("langchain_agent.py", "langsmith"),
        _ALL,
        {
            "LANGSMITH_OTEL_ENABLED": "true",
            "LANGSMITH_OTEL_ONLY": "true",
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_API_KEY": "none",
        },
    ),
    Emitter("langchain-langfuse", "langchain", "langfuse", ("langchain_agent.py", "langfuse"), _ALL),
    Emitter(
        "langchain-mlflow",
        "langchain",
        "mlflow-tracing",
        ("langchain_agent.py", "mlflow"),
        (*_CLIENT, "documents"),
        unread=_WHO,
        why="metadata of LangChain's run",
    ),
    Emitter(
        "langchain-openinference",
        "langchain",
        "openinference-instrumentation-langchain",
        ("langchain_agent.py", "openinference"),
        _ALL,
    ),
    Emitter(
        "langchain-openllmetry",
        "langchain",
        "opentelemetry-instrumentation-langchain",
        ("langchain_agent.py", "openllmetry"),
        _ALL,
    ),
    Emitter(
        "openai-agents-openinference",
        "agents",
        "openinference-instrumentation-openai-agents",
        ("openai_agents.py", "openinference"),
        _CLIENT,
    ),
    Emitter(
        "openai-agents-openllmetry",
        "agents",
        "opentelemetry-instrumentation-openai-agents",
        ("openai_agents.py", "openllmetry"),
        _CLIENT,
    ),
    Emitter(
        "smolagents-openinference",
        "agents",
        "openinference-instrumentation-smolagents",
        ("smolagents_agent.py",),
        (*_CLIENT, *_WHO),
    ),
    *(
        Emitter(
            f"llamaindex-{library}",
            "llamaindex",
            package,
            ("llamaindex_agent.py", library),
            shows,
            unread=unread,
        )
        for library, package, shows, unread in (
            ("own", "llama-index-observability-otel", (*_CLIENT, "documents"), ()),
            ("openinference", "openinference-instrumentation-llama-index", _ALL, ()),
            ("openllmetry", "opentelemetry-instrumentation-llamaindex", _CLIENT, ("documents",)),
        )
    ),
    Emitter(
        "anthropic-openinference",
        "clients",
        "openinference-instrumentation-anthropic",
        ("anthropic_messages.py", "openinference"),
        (*_CLIENT, *_WHO),
    ),
    Emitter(
        "anthropic-openllmetry",
        "clients",
        "opentelemetry-instrumentation-anthropic",
        ("anthropic_messages.py", "openllmetry"),
        _CLIENT,
    ),
    Emitter(
        "anthropic-openllmetry-stream",
        "clients",
        "opentelemetry-instrumentation-anthropic",
        ("anthropic_messages.py", "openllmetry", "stream"),
        _CLIENT,
    ),
    Emitter(
        "google-genai",
        "genai",
        "opentelemetry-instrumentation-google-genai",
        ("google_genai.py", "genai"),
        _CLIENT,
        _GENAI_LATEST | {_GENAI_CONTENT: "SPAN_AND_EVENT"},
    ),
    Emitter(
        "google-genai-openinference",
        "clients",
        "openinference-instrumentation-google-genai",
        ("google_genai.py", "openinference"),
        (*_CLIENT, *_WHO),
    ),
    Emitter(
        "google-genai-openllmetry",
        "clients",
        "opentelemetry-instrumentation-google-generativeai",
        ("google_genai.py", "openllmetry"),
        _CLIENT,
    ),
    Emitter(
        "bedrock-openinference",
        "clients",
        "openinference-instrumentation-bedrock",
        ("bedrock_converse.py", "openinference"),
        (*_CLIENT, *_WHO),
    ),
    Emitter(
        "bedrock-openllmetry",
        "clients",
        "opentelemetry-instrumentation-bedrock",
        ("bedrock_converse.py", "openllmetry"),
        _CLIENT,
    ),
    Emitter(
        "bedrock-botocore",
        "clients",
        "opentelemetry-instrumentation-botocore",
        ("bedrock_converse.py", "botocore"),
        _CLIENT,
        {_GENAI_CONTENT: "true"},
    ),
    Emitter("strands", "strands", "strands-agents", ("strands_agent.py",), (*_CLIENT, *_WHO)),
    *(
        Emitter(
            f"vercel-{n}", f"vercel{n}", "ai", ("vercel.mjs", str(n)), (*_CLIENT, *(_WHO if n < 7 else ()))
        )
        for n in (4, 5, 6, 7)
    ),
    Emitter("genkit", "genkit", "genkit", ("genkit.mjs",), (*_CLIENT, "documents")),
    Emitter(
        "openai-node-openinference",
        "node",
        "@arizeai/openinference-instrumentation-openai",
        ("openai_node.mjs", "openinference"),
        (*_CLIENT, "user"),
    ),
    Emitter(
        "openai-node-openllmetry",
        "node",
        "@traceloop/instrumentation-openai",
        ("openai_node.mjs", "openllmetry"),
        _CLIENT,
    ),
    Emitter(
        "haystack-openinference",
        "haystack",
        "openinference-instrumentation-haystack",
        ("haystack_agent.py", "openinference"),
        ("question", "answer", "call", "documents", *_WHO),
        unread=("result",),
        why="Python's repr of the input; the message has no content",
        blind=True,
    ),
    Emitter(
        "agno-openinference",
        "agno",
        "openinference-instrumentation-agno",
        ("agno_agent.py",),
        (*_CLIENT, "user", "conversation"),
    ),
    Emitter(
        "agent-framework",
        "agentframework",
        "agent-framework-core",
        ("agent_framework_agent.py",),
        _CLIENT,
        {"ENABLE_INSTRUMENTATION": "true", "ENABLE_SENSITIVE_DATA": "true"},
    ),
    Emitter(
        "autogen",
        "autogen",
        "autogen-agentchat",
        ("autogen_agent.py",),
        (),
        more=-1,
        why="no call of a model is reported, and no text",
        blind=True,
    ),
    Emitter(
        "google-adk",
        "adk",
        "google-adk",
        ("adk_agent.py",),
        (*_CLIENT, "conversation"),
        _GENAI_LATEST | {_GENAI_CONTENT: "SPAN_ONLY"},
    ),
    Emitter(
        "google-adk-openinference",
        "adk",
        "openinference-instrumentation-google-adk",
        ("adk_agent.py", "openinference"),
        (*_CLIENT, "user", "conversation"),
        more=-1,
        why="it writes both calls on the span of the agent",
    ),
    Emitter(
        "litellm",
        "litellm",
        "litellm",
        ("litellm_completion.py", "otel"),
        ("question", "call", "user"),
        {"OTEL_EXPORTER": "otlp_http", "LITELLM_LOCAL_MODEL_COST_MAP": "true"},
        more=-1,
        why="only the first of its two calls was exported",
    ),
    Emitter(
        "litellm-openinference",
        "litellm",
        "openinference-instrumentation-litellm",
        ("litellm_completion.py", "openinference"),
        (*_CLIENT, *_WHO),
    ),
    Emitter(
        "dspy-openinference",
        "dspy",
        "openinference-instrumentation-dspy",
        ("dspy_react.py",),
        ("question", "answer", "result", *_WHO),
        unread=("call",),
        why="text in a format of its own",
    ),
    Emitter(
        "semantic-kernel",
        "semantickernel",
        "semantic-kernel",
        ("semantic_kernel_agent.py",),
        _CLIENT,
        {"SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE": "true"},
    ),
    Emitter(
        "crewai-openinference",
        "crewai",
        "openinference-instrumentation-crewai",
        ("crewai_crew.py", "openinference"),
        ("answer", "call", "result", *_WHO),
        _CREWAI,
        unread=("question",),
        more=-1,
        why="no call of a model is reported, only agent and task",
    ),
    Emitter(
        "crewai-openllmetry",
        "crewai",
        "opentelemetry-instrumentation-crewai",
        ("crewai_crew.py", "openllmetry"),
        ("answer",),
        _CREWAI,
        unread=("question", "call", "result"),
        more=-1,
        why="no call of a model is reported, only agent and task",
    ),
    *(
        Emitter(
            f"agento11y-{protocol}",
            "agento11y",
            "agento11y",
            ("agento11y_openai_chat.py", protocol),
            (*_CLIENT, *_WHO),
        )
        for protocol in ("grpc", "http")
    ),
)
BY_NAME: Final = {emitter.name: emitter for emitter in EMITTERS}
