"""Payloads as gateways and clients send them, in the documented shapes; what they say is our own.

Sources: LiteLLM, docs.litellm.ai "StandardLoggingPayload Specification" and `litellm/types/utils.py`; Kong,
developer.konghq.com "Kafka Log" (sample entry) and "AI Gateway audit log reference"; OpenAI, the types of its
client (PyPI `openai` 3.57), with which `test_ingest_gateways.py` checks these; Grafana's Agent Observability
SDK, `generation_ingest.proto` of PyPI `agento11y` 0.21.
"""

import json
from typing import Any

SYSTEM = "Answer only from the policy."
QUESTION = "Can I return shoes after 40 days?"
ANSWER = "No: shoes may be returned within 30 days."
MODEL = "gpt-4o-2024-08-06"
CREATED = 1_787_113_202
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
USAGE = {"prompt_tokens": 13, "completion_tokens": 12, "total_tokens": 25}

REQUEST: dict[str, Any] = {"model": "gpt-4o", "messages": MESSAGES, "temperature": 0.2}
COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-B9",
    "object": "chat.completion",
    "created": CREATED,
    "model": MODEL,
    "system_fingerprint": "fp_44709d6fcb",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}
NATIVE: dict[str, Any] = {
    "id": "chatcmpl-B9",
    "time": CREATED,
    "model": MODEL,
    "messages": MESSAGES,
    "response": ANSWER,
    "finish_reason": "stop",
    "usage": {"input_tokens": 13, "output_tokens": 12},
}
PAIR: dict[str, Any] = {"request": REQUEST, "response": COMPLETION}
RESPONSES: dict[str, Any] = {
    "request": {"model": "gpt-4o", "instructions": SYSTEM, "input": QUESTION},
    "response": {
        "id": "chatcmpl-B9",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "model": MODEL,
        "output": [
            {"id": "rs_1", "type": "reasoning", "summary": []},
            {
                "id": "msg_1",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": ANSWER, "annotations": []}],
            },
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 13,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 12,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 25,
        },
    },
}
LITELLM: dict[str, Any] = {
    "id": "chatcmpl-B9",
    "trace_id": "6f1d1c1e-6f2a-4c59-9f3e-0d6a8a1f7c11",
    "call_type": "acompletion",
    "stream": False,
    "response_cost": 0.00015,
    "status": "success",
    "custom_llm_provider": "openai",
    "total_tokens": 25,
    "prompt_tokens": 13,
    "completion_tokens": 12,
    "startTime": 1_787_113_201.5,
    "endTime": 1_787_113_202.5,
    "completionStartTime": 1_787_113_202.0,
    "response_time": 1.0,
    "model_map_information": {"model_map_key": "gpt-4o", "model_map_value": None},
    "model": "gpt-4o",
    "model_id": "cb41bc03",
    "model_group": "support-model",
    "api_base": "https://api.openai.com",
    "metadata": {
        "user_api_key_hash": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
        "user_api_key_alias": "support-bot",
        "user_api_key_team_id": "t-7",
        "user_api_key_team_alias": "support",
        "user_api_key_user_id": "jane@example.com",
        "user_api_key_user_email": "jane@example.com",
        "user_api_key_end_user_id": None,
        "spend_logs_metadata": {"cost_center": "4711"},
        "requester_ip_address": "192.0.2.7",
        "requester_metadata": {"environment": "production", "ticket": 17},
        "requester_custom_headers": {"x-team": "support"},
        "prompt_management_metadata": {"prompt_id": "returns", "prompt_integration": "langfuse"},
        "vector_store_request_metadata": [
            {
                "vector_store_id": "vs_1",
                "query": QUESTION,
                "vector_store_search_response": {
                    "object": "vector_store.search_results.page",
                    "search_query": QUESTION,
                    "data": [
                        {
                            "score": 0.9,
                            "file_id": "policy",
                            "content": [{"type": "text", "text": "Shoes may be returned within 30 days."}],
                        }
                    ],
                },
            }
        ],
        "applied_guardrails": [],
    },
    "cache_hit": False,
    "request_tags": ["returns", "eu"],
    "end_user": "customer-9",
    "requester_ip_address": "192.0.2.7",
    "messages": MESSAGES,
    "response": COMPLETION,
    "error_str": None,
    "error_information": {"error_code": "", "error_class": "", "llm_provider": "", "traceback": ""},
    "model_parameters": {"temperature": 0.2},
    "hidden_params": {"model_id": "cb41bc03", "response_cost": "0.00015"},
}
KONG: dict[str, Any] = {
    "workspace_name": "default",
    "source": "upstream",
    "upstream_uri": "/v1/chat/completions",
    "upstream_status": 200,
    "client_ip": "192.0.2.7",
    "started_at": 1_787_113_201_500,
    "tries": [{"ip": "192.0.2.80", "port": 443, "balancer_latency": 0}],
    "request": {
        "id": "9ec9264afbbbad5fe5c64877d92eeb04",
        "uri": "/v1/chat/completions",
        "method": "POST",
        "headers": {"host": "localhost:8000", "authorization": "REDACTED"},
    },
    "response": {"status": 200, "size": 1845, "headers": {"content-type": "application/json"}},
    "latencies": {"kong": 3, "proxy": 970, "request": 976, "receive": 3},
    "service": {"id": "947a4e23-b483-5a65-8165-da9aed24565b", "name": "ai-gateway", "port": 80},
    "route": {"id": "8ae36805-da7a-55b9-b056-72bde6bb937d", "name": "openai-chat"},
    "consumer": {"id": "6c95a611-9991-407b-b1c3-bc608d3bccc3", "username": "support-bot"},
    "ai": {
        "proxy": {
            "tried_targets": [{"route_type": "llm/v1/chat", "provider": "openai", "model": "gpt-4o"}],
            "meta": {
                "request_mode": "oneshot",
                "provider_name": "openai",
                "request_model": "gpt-4o",
                "response_model": MODEL,
                "llm_latency": 972,
                "plugin_id": "f3adc007-171c-5519-8763-3a0eef79bde3",
            },
            "usage": {**USAGE, "cost": 0.0038, "time_per_token": 81, "time_to_first_token": 971},
            "payload": {"request": json.dumps(REQUEST), "response": json.dumps(COMPLETION)},
        }
    },
}
OLD_KONG: dict[str, Any] = {
    **KONG,
    "ai": {
        "payload": {"request": json.dumps(REQUEST)},
        "ai-proxy": {
            "payload": {"response": json.dumps(COMPLETION)},
            "usage": {"prompt_token": 13, "completion_token": 12, "total_tokens": 25, "cost": 0.0038},
            "meta": {"provider_name": "openai", "request_model": "gpt-4o", "response_model": MODEL},
        },
    },
}


AGENTO11Y: dict[str, Any] = {
    "generations": [
        {
            "id": "chatcmpl-B9",
            "conversation_id": "conv-1",
            "operation_name": "generateText",
            "mode": "GENERATION_MODE_SYNC",
            "trace_id": "6f1d1c1e6f2a4c599f3e0d6a8a1f7c11",
            "span_id": "6f1d1c1e6f2a4c59",
            "model": {"provider": "openai", "name": "gpt-4o"},
            "response_id": "resp-1",
            "response_model": MODEL,
            "system_prompt": SYSTEM,
            "input": [{"role": "MESSAGE_ROLE_USER", "parts": [{"text": QUESTION}]}],
            "output": [{"role": "MESSAGE_ROLE_ASSISTANT", "parts": [{"thinking": "hm"}, {"text": ANSWER}]}],
            "tools": [{"name": "order", "description": "Orders.", "type": "function"}],
            "usage": {"input_tokens": "13", "output_tokens": "12", "total_tokens": "25"},
            "stop_reason": "stop",
            "started_at": "2026-08-18T22:20:02.250Z",
            "completed_at": "2026-08-18T22:20:03.250Z",
            "tags": {"team": "support"},
            "metadata": {
                "agento11y.user.id": "customer-9",
                "agento11y.sdk.content_capture_mode": "full",
            },
            "agent_name": "Shoe Helper",
            "agent_version": "1.0.0",
        }
    ]
}


def chunk(delta: dict[str, Any], index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a streamed chat completion."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish} | more
    return {
        "id": "chatcmpl-B9",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": MODEL,
        "system_fingerprint": "fp_44709d6fcb",
        "choices": [choice],
    }


CHUNKS: list[dict[str, Any]] = [
    chunk({"role": "assistant", "content": "", "refusal": None}),
    chunk({"content": ANSWER[:9]}),
    chunk({"content": ANSWER[9:]}),
    chunk({}, finish="stop"),
    chunk({}) | {"choices": [], "usage": USAGE},
]


def sse(events: list[dict[str, Any]], line: str = "\n") -> str:
    """Server-sent events as they go over the wire."""
    return "".join(f"data: {json.dumps(event)}{line}{line}" for event in events) + f"data: [DONE]{line}{line}"
