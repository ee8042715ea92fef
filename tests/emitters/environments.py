"""Environments of emitters: packages pinned, made once per machine, and kept outside the checkout.

One of Python is a venv without pip, one of Node a folder with `node_modules`. What fits together shares one.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from cache import cached

_SDK: Final = ("opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp-proto-http==1.45.2")
_NODE_SDK: Final = (
    "@opentelemetry/api@1.9.1",
    "@opentelemetry/exporter-trace-otlp-http@0.223.1",
    "@opentelemetry/resources@2.12.1",
    "@opentelemetry/sdk-trace-node@2.12.1",
)


class Environment(NamedTuple):
    """Packages that are installed together: `name==version` for Python, `name@version` for Node."""

    packages: tuple[str, ...]
    node: bool = False
    bare: tuple[str, ...] = ()
    """Packages without those that they ask for, where no versions fit all that is asked."""

    def version(self, package: str) -> str:
        """Return the version of one of the packages; raises KeyError for one that is not named here."""
        pinned = dict(each.rsplit("@" if self.node else "==", 1) for each in (*self.packages, *self.bare))
        return (
            pinned[package.partition("[")[0]] if package in pinned else pinned[_with_extra(package, pinned)]
        )


def _with_extra(package: str, pinned: Mapping[str, str]) -> str:
    return next((name for name in pinned if name.partition("[")[0] == package), package)


ENVIRONMENTS: Final[Mapping[str, Environment]] = {
    "openai": Environment(
        (
            "httpx==0.28.1",
            "openai==3.57.0",
            "openinference-instrumentation-openai==0.1.66",
            "opentelemetry-instrumentation-openai==0.62.4",
            "opentelemetry-instrumentation-openai-v2==2.4b0",
            "opentelemetry-util-genai==1.1b0",
            *_SDK,
        )
    ),
    "clients": Environment(
        (
            "anthropic==2.10.0",
            "google-genai==3.3.0",
            "boto3==1.44.5",
            "groq==1.7.0",
            "openinference-instrumentation-anthropic==3.1.0",
            "openinference-instrumentation-bedrock==0.1.61",
            "openinference-instrumentation-google-genai==1.4.14",
            "openinference-instrumentation-groq==0.1.33",
            "opentelemetry-instrumentation-anthropic==0.62.4",
            "opentelemetry-instrumentation-bedrock==0.62.4",
            "opentelemetry-instrumentation-botocore==0.66b2",
            "opentelemetry-instrumentation-google-generativeai==0.62.4",
            "opentelemetry-instrumentation-groq==0.62.4",
            *_SDK,
        )
    ),
    "genai": Environment(
        ("google-genai==2.34.0", "opentelemetry-instrumentation-google-genai==1.3b0", *_SDK)
    ),
    "langchain": Environment(
        (
            "langchain==1.5.0",
            "langchain-openai==1.7.4",
            "langfuse==5.0.4",
            "langsmith[otel]==0.14.17",
            "mlflow-tracing==3.17.2",
            "openinference-instrumentation-langchain==0.1.80",
            "opentelemetry-instrumentation-langchain==0.62.4",
            *_SDK,
        )
    ),
    "llamaindex": Environment(
        (
            "llama-index-core==0.14.25",
            "llama-index-llms-openai==0.8.3",
            "llama-index-observability-otel==0.7.0",
            "openinference-instrumentation-llama-index==4.6.1",
            "opentelemetry-instrumentation-llamaindex==0.62.4",
            "opentelemetry-instrumentation-openai==0.62.4",
            *_SDK,
        )
    ),
    "pydantic": Environment(("pydantic-ai-slim[openai]==2.68.0", "logfire==5.4.0", *_SDK)),
    "agents": Environment(
        (
            "openai-agents==0.24.0",
            "openinference-instrumentation-openai-agents==2.6.0",
            "openinference-instrumentation-smolagents==0.1.43",
            "opentelemetry-instrumentation-openai-agents==0.62.4",
            "smolagents[openai]==1.26.0",
            *_SDK,
        )
    ),
    "strands": Environment(
        (
            "strands-agents[openai]==1.62.0",
            "opentelemetry-sdk==1.45.1",
            "opentelemetry-exporter-otlp-proto-http==1.45.1",
        )
    ),
    "haystack": Environment(
        (
            "haystack-ai==3.4.1",
            "openinference-instrumentation-haystack==0.1.46",
            *_SDK,
        )
    ),
    "openlit": Environment(
        (
            "openai==2.54.0",
            "opentelemetry-instrumentation==0.66b2",
            "pydantic==2.14.4",
            "requests==2.34.2",
            "schedule==1.2.2",
            "xmltodict==1.0.2",
            *_SDK,
        ),
        bare=("openlit==1.45.0",),
    ),
    "agno": Environment(
        ("agno==3.1.10", "openai==3.57.0", "openinference-instrumentation-agno==1.0.15", *_SDK)
    ),
    "agentframework": Environment(("agent-framework-core==1.23.0", "agent-framework-openai==1.17.0", *_SDK)),
    "autogen": Environment(("autogen-agentchat==0.7.5", "autogen-ext[openai]==0.7.5", *_SDK)),
    "adk": Environment(
        (
            "google-adk==2.13.0",
            "openinference-instrumentation-google-adk==1.0.5",
            "opentelemetry-sdk==1.44.0",
            "opentelemetry-exporter-otlp-proto-http==1.44.0",
        )
    ),
    "agento11y": Environment(("agento11y==0.21.0", "agento11y-openai==0.21.0", "openai==2.54.0")),
    "dspy": Environment(("dspy==3.4.1", "openinference-instrumentation-dspy==0.1.48", *_SDK)),
    "litellm": Environment(("litellm==1.110.2", "openinference-instrumentation-litellm==0.1.51", *_SDK)),
    "semantickernel": Environment(("semantic-kernel==1.45.0", *_SDK)),
    "crewai": Environment(
        (
            "crewai==1.15.30",
            "openinference-instrumentation-crewai==1.1.21",
            "opentelemetry-instrumentation-crewai==0.62.4",
            *_SDK,
        )
    ),
    "vercel4": Environment(("ai@4.3.19", "zod@3.25.76", *_NODE_SDK), node=True),
    "vercel5": Environment(("ai@5.0.277", "zod@3.25.76", *_NODE_SDK), node=True),
    "vercel6": Environment(("ai@6.0.326", "zod@3.25.76", *_NODE_SDK), node=True),
    "vercel7": Environment(("ai@7.0.173", "@ai-sdk/otel@1.0.173", "zod@3.25.76", *_NODE_SDK), node=True),
    "genkit": Environment(("genkit@1.42.0", *_NODE_SDK), node=True),
    "node": Environment(
        (
            "openai@6.49.0",
            "@arizeai/openinference-instrumentation-openai@4.2.7",
            "@traceloop/instrumentation-openai@0.27.0",
            *_NODE_SDK,
        ),
        node=True,
    ),
}


def made(name: str) -> Path:
    """Return the folder of an environment, which is made if it is not there; takes minutes.

    Raises CalledProcessError where a package cannot be installed.
    """
    environment = ENVIRONMENTS[name]
    digest = hashlib.sha256("\n".join((*environment.packages, *environment.bare)).encode()).hexdigest()[:8]
    make = _make_node if environment.node else _make_python
    return cached(f"emitter-{name}-{digest}", lambda folder: make(folder, environment))


def _make_python(folder: Path, environment: Environment) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    quiet = ["--quiet", "--no-compile", "--progress-bar", "off"]
    subprocess.run([*pip, *quiet, *environment.packages], check=True)
    if environment.bare:
        subprocess.run([*pip, *quiet, "--no-deps", *environment.bare], check=True)


def _make_node(folder: Path, environment: Environment) -> None:
    (folder / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps", "--loglevel", "error"]
    subprocess.run(["npm", "install", *quiet, "--save-exact", *environment.packages], cwd=folder, check=True)
