"""Why a body is not taken, and how its sender is told: `google.rpc.Status`, which OTLP asks for."""

from enum import Enum, auto

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status


class Refusal(Enum):
    """Why a body is not taken. A repeat may cure BUSY and STOPPING."""

    MALFORMED = auto()
    TOO_LARGE = auto()
    BUSY = auto()
    STOPPING = auto()


class BodyRefused(Exception):  # noqa: N818 - an answer, not an error
    """A body that is not taken; the text says why."""

    def __init__(self, why: Refusal, text: str) -> None:
        super().__init__(text)
        self.why = why
        self.text = text


def too_large(limit: int) -> str:
    """Return the text for a body over the limit: its sender reads it, so it names the sender's remedy."""
    return (
        f"the body is larger than receiver.max_body_bytes, {limit} decompressed: send smaller batches; "
        "in a Collector give the exporter a sending_queue.batch with sizer: bytes and a max_size below that"
    )


def status(text: str, code: int = 0, retry_seconds: int | None = None) -> bytes:
    """Return a `google.rpc.Status`; with `retry_seconds` its details say when to try again."""
    made = Status(code=code, message=text)
    if retry_seconds is not None:
        packed = Any()
        packed.Pack(RetryInfo(retry_delay=Duration(seconds=retry_seconds)))
        made.details.append(packed)
    encoded: bytes = made.SerializeToString()
    return encoded
