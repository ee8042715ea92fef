"""What the parts of a message hold: texts, calls of tools, their results and documents."""

from typing import NamedTuple

import msgspec

from monitor.trace import Document, ToolCall


class Result(NamedTuple):
    """A tool's result; `own` is the id of its call, `after` how many calls came before it."""

    own: str
    text: str
    error: bool = False
    name: str = ""
    after: int = 0


class Content(msgspec.Struct, gc=False):
    """A message's content, taken apart."""

    texts: list[str] = []
    calls: list[ToolCall] = []
    results: list[Result] = []
    documents: list[Document] = []
    left_out: list[str] = []
    logprobs: list[float] = []
    refused: bool = False

    def add(self, other: "Content") -> None:
        """Add another message's content."""
        self.texts += other.texts
        if other.results:
            before = len(self.calls)
            self.results += [result._replace(after=result.after + before) for result in other.results]
        self.calls += other.calls
        self.documents += other.documents
        self.left_out += other.left_out
        self.logprobs += other.logprobs
        self.refused |= other.refused

    def text(self) -> str:
        """Return the texts, a line for each."""
        return "\n".join(self.texts)

    def held(self) -> bool:
        """Return whether there is anything in it."""
        return bool(self.texts or self.calls or self.results or self.documents or self.left_out)

    def answered_calls(self) -> list[ToolCall]:
        """Return the calls with the results that came with them; a result without a call stands for one.

        A result without an id, as Gemini's of code, is that of the call before it.
        """
        if not self.results:
            return self.calls
        made = list(self.calls)
        at = {call.id: n for n, call in enumerate(made) if call.id}
        for result in self.results:
            n = at.get(result.own, -1) if result.own else min(result.after, len(self.calls)) - 1
            if n >= 0 and (result.own or not (made[n].id or made[n].result)):
                call = made[n]
                text, error = result.text or call.result, call.error or result.error
                made[n] = ToolCall(call.name, call.arguments, text, call.id, error)
            else:
                made.append(ToolCall(result.name, "", result.text, result.own, result.error))
        return made
