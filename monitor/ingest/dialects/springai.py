"""Spring AI: observations of its clients, tools and vector stores beside GenAI's attributes.

Source: Spring AI's reference, "Observability" (1.0 to 2.0), and its milestones before 1.0, which kept texts
on spans as `gen_ai.prompt`, `gen_ai.completion` and `db.vector.query.response.documents`.
"""

from typing import Final

from monitor.ingest.dialects import messages
from monitor.ingest.dialects.payloads import DOCUMENT_KEYS
from monitor.ingest.fields import plain
from monitor.ingest.spans import Reading
from monitor.ingest.wire import WireSpan
from monitor.trace import StepKind

NAME: Final = "Spring AI"
CONTENT_ON: Final = (
    "put the texts on spans by an ObservationFilter of your own, for since 1.0 they are only logged; "
    "spring.ai.tools.observations.include-content=true for tools"
)
_KIND = "spring.ai.kind"
_FOUND = ("db.vector.query.response.documents", "spring.ai.vectorstore.query.response.documents")
_EVENT = "db.vector.content.query.response"
_CONVERSATION = "spring.ai.chat.client.conversation.id"
MARKS: Final = frozenset({_KIND, _CONVERSATION, "spring.ai.tool.definition.name", *_FOUND})
EVENTS: Final = frozenset({_EVENT})
KINDS: Final = {
    "chat_client": StepKind.WORKFLOW,
    "advisor": StepKind.OTHER,
    "tool_call": StepKind.TOOL,
    "vector_store": StepKind.RETRIEVAL,
}


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read what Spring AI adds to GenAI's attributes of a span."""
    get = span.attributes.get
    reading = Reading(kind=KINDS.get(plain(get(_KIND))))
    reading.conversation = get(_CONVERSATION)
    if reading.kind is None and "spring.ai.tool.definition.name" in span.attributes:
        reading.kind = StepKind.TOOL
    found = next((get(key) for key in _FOUND if key in span.attributes), None)
    for event in span.events:
        if event.name == _EVENT:
            found = next((event.attributes[key] for key in _FOUND if key in event.attributes), found)
    if reading.kind is StepKind.TOOL:
        reading.name = get("spring.ai.tool.definition.name")
        reading.call_id = get("spring.ai.tool.call.id")
        reading.input = messages.text_of(get("spring.ai.tool.call.arguments"))
        reading.output = messages.text_of(get("spring.ai.tool.call.result"))
    elif reading.kind is StepKind.RETRIEVAL or found is not None:
        asks = plain(get("db.operation.name")) in {"", "query"}  # the others add documents and delete them
        reading.kind = StepKind.RETRIEVAL if asks else StepKind.OTHER
        reading.name = get("db.collection.name") or get("db.system")
        reading.input = messages.text_of(get("db.vector.query.content"))
        reading.documents = messages.documents(found, (*DOCUMENT_KEYS, *document_keys))
    elif reading.kind is StepKind.WORKFLOW:
        reading.name = span.name
        user, system = get("spring.ai.chat.client.user.text"), get("spring.ai.chat.client.system.text")
        if (user or system) and "gen_ai.prompt" not in span.attributes:
            turns = [{"role": "user", "content": user}] if user else None
            reading.asked = messages.asked(turns, system)
    return reading
