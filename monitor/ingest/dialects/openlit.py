"""OpenLIT: GenAI's attributes, but a turn of the assistant that only called tools is left out of prompts.

Source: `openlit` 1.45 `instrumentation/openai/utils.py`. Versions before 1.34 have events of content.
"""

from typing import Final

from msgspec.structs import replace

from monitor.ingest.dialects import messages
from monitor.ingest.spans import Reading
from monitor.ingest.wire import WireSpan
from monitor.trace import Message

NAME: Final = "OpenLIT"
CONTENT_ON: Final = "call openlit.init with capture_message_content=True, the default"
MARKS: Final = frozenset({"telemetry.sdk.name"})


def read(span: WireSpan, _document_keys: tuple[str, ...]) -> Reading | None:
    """Put back the turns that are missing: a result of a tool follows the turn that called it."""
    get = span.attributes.get
    if get("telemetry.sdk.name") != "openlit":
        return None
    reading = Reading()
    if "gen_ai.input.messages" in span.attributes:
        asked = messages.asked(get("gen_ai.input.messages"), get("gen_ai.system_instructions"))
        turns: list[Message] = []
        for message in asked.messages:
            if message.role == "tool" and turns and turns[-1].role not in {"assistant", "tool"}:
                turns.append(Message("assistant", ""))
            turns.append(message)
        if len(turns) > len(asked.messages):
            reading.asked = replace(asked, messages=tuple(turns))
    return reading
