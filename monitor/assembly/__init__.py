"""Assembly: joins spans, which arrive in any order over several records, into exchanges to judge.

One exchange per call of a model, however many spans tell of it: its prompt and response, with the documents
retrieved and the tools called before it began or under it; the last one of an agent's run also gets the steps
of that run. A trace is complete `complete_seconds` after its root has arrived (a root ends last; spans on
other partitions catch up meanwhile) and, if any of it is about a language model, a call of one; when nothing
of it came for `timeout_seconds`; or when the buffer is full. Where a text, a parent or a result is known to
be missing, spans get `settle_seconds` after the root. What is still missing then is named. A text that comes
later is judged as a revision of its exchange.

Pure: no clock, no input or output. A span comes with a key of the caller's, and all keys come back: each
exchange's own, and those that are done once the exchanges of their trace are.
"""

from monitor.assembly.assembler import Assembled, Assembler, Exchange
from monitor.assembly.memory import ExchangeId
from monitor.assembly.waiting import DEFAULT_BOUNDS, Bounds

__all__ = ["DEFAULT_BOUNDS", "Assembled", "Assembler", "Bounds", "Exchange", "ExchangeId"]
