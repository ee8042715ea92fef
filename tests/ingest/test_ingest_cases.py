"""Payloads of real emitters and of a real Collector, each against its expectation."""

import pytest
from ingest_cases import FOLDER, Case, cases, faults

PENDING: frozenset[str] = frozenset(
    {
        "agento11y_generations",
        "agento11y_spans",
        "claude_code_logs",
        "clock_skew_retrieval",
        "cloudflare_gateway",
        "collector/anthropic_openllmetry_tools.otlp_proto",
        "collector/genai_openai_cut_spans_whole_events.logs.otlp_proto",
        "collector/genai_openai_cut_spans_whole_events.spans.otlp_proto",
        "collector/genai_openai_error.otlp_proto",
        "collector/langfuse_tools.otlp_proto",
        "collector/metadata_topic_record",
        "collector/openlit_tools.otlp_proto",
        "collector/pydantic_ai_v2_tools.otlp_proto",
        "collector/strands_tools.otlp_proto",
        "conv_on_parent",
        "empty_inner_native_span",
        "google_adk_call_llm",
        "kong__anthropic_stream",
        "langfuse_generation",
        "langsmith_chain_as_chat",
        "litellm__audio",
        "litellm__generate_content",
        "litellm__passthrough",
        "lone_surrogate_in_attr_json",
        "lone_surrogate_in_otlp_json",
        "mlflow_spans",
        "native__aws_glue_framing",
        "nested_prediction_wrapper",
        "openai__anthropic_stream",
        "openai__anthropic_whole",
        "openai__audio_transcript",
        "openai__created_iso",
        "openai__embeddings",
        "openai__float_tokens",
        "openai__gemini",
        "openai__null_logprob",
        "openai__responses_code_interp",
        "openai__responses_deltas_only",
        "openai__responses_tool_stream_cut",
        "openai__text_value_object",
        "openai__unknown_role",
        "openai__user_number",
        "openllmetry_task_as_agent",
        "openllmetry_vector_db_retrieve",
        "outer_empty_drops_inner_tool_call",
        "prompt_json_with_system",
        "retrieval_under_chat",
        "spec_workflow_only_content",
        "structured_output_by_tool",
        "vercel_ai_v6",
    }
)
"""Payloads that are not read as expected yet."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=case.name,
            marks=[pytest.mark.xfail(strict=False, reason="not read yet")] if case.name in PENDING else [],
        )
        for case in cases()
    ],
)
def test_a_payload_comes_out_as_expected(case: Case) -> None:
    """Every field that the expectation names is read from the payload as it says."""
    assert faults(case.traces(), case.expect) == []


def test_the_payloads_are_there() -> None:
    """The folder of payloads is next to the checkout."""
    if not FOLDER.exists():
        pytest.skip("no ../shared/cases/ingest")
    assert len(list(cases())) >= 90
