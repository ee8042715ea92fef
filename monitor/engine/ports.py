"""The engine's ports to the ledger."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from monitor.events import Assigned, TopicPartition
from monitor.outcome.transaction import Transaction
from monitor.progress import Attempt, Mark, StartPosition


class PartitionClaim(Protocol):
    """A partition claimed in the ledger."""

    @property
    def epoch(self) -> int:
        """Fencing token: a later claim has a higher one."""
        ...

    @property
    def version(self) -> int:
        """Number of transactions of the partition so far."""
        ...

    @property
    def mark(self) -> Mark:
        """Progress to continue from."""
        ...

    @property
    def start(self) -> StartPosition:
        """First offset to read, and the reason."""
        ...

    @property
    def incarnation(self) -> int:
        """Number of the log among those of this name."""
        ...

    @property
    def attempt(self) -> Attempt:
        """What is known of daemons that had the next records in hand before."""
        ...


class PartitionHolding(Protocol):
    """The current claim of a partition."""

    @property
    def epoch(self) -> int:
        """Fencing token of the last claim."""
        ...

    @property
    def moved(self) -> bool:
        """Return whether an operator made it, by moving the position."""
        ...


class Claims(Protocol):
    """Claims partitions in a ledger. Each method raises Retryable."""

    def claim(
        self, assigned: Assigned, *, latest: bool, waited_at: int | None = None
    ) -> PartitionClaim | StartPosition:
        """Claim a partition and say where to read on; a bare StartPosition means that it must not be read."""
        ...

    def first_look(self, ends: Mapping[TopicPartition, int]) -> None:
        """Remember the ends of the topics when the ledger was first used."""
        ...

    def alone(self, topic: str, partition: int, version: int, offset: int) -> None:
        """Note that a record is in hand alone, at this version of its partition."""
        ...

    def calm(self, topic: str, partition: int) -> None:
        """Note that the records which came after deaths are not their cause."""
        ...

    def give_back(self, names: Iterable[TopicPartition]) -> None:
        """Note that partitions are left by a daemon that lives on, or ends as it should."""
        ...

    def holdings(self) -> Mapping[TopicPartition, PartitionHolding]:
        """Return the current claim of each partition that was ever claimed."""
        ...


class LedgerPort(Claims, Protocol):
    """Records transactions; the engine's port to a ledger."""

    def record(self, transaction: Transaction) -> None:
        """Write a transaction, at most once. Raises Fenced or Retryable."""
        ...
