"""What every emitter is made to say, each text only in one place, so that it can be looked for."""

from typing import Final

SYSTEM: Final = "Answer in one sentence."
QUESTION: Final = "Where is the parcel that I ordered?"
TOOL: Final = "lookup_order"
ORDER: Final = "A-991"
RESULT: Final = "It left the warehouse on 3 November."
ANSWER: Final = "Your parcel is on its way and should arrive on Friday."
DOCUMENT: Final = "Parcels take three working days."
USER: Final = "customer-17"
CONVERSATION: Final = "conversation-42"
MODEL: Final = "gpt-4o-mini"

PARTS: Final = {
    "question": QUESTION,
    "answer": ANSWER,
    "call": ORDER,
    "result": RESULT,
    "documents": DOCUMENT,
    "user": USER,
    "conversation": CONVERSATION,
}
"""Part of a conversation to the text that shows it."""
