"""What the engine needs of a ledger."""

from collections.abc import Mapping
from typing import Protocol

from monitor.events import Assigned, TopicPartition
from monitor.outcome.transaction import Transaction
from monitor.progress import Mark, StartPosition


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
    def placement(self) -> StartPosition:
        """Why reading begins there."""
        ...

    @property
    def incarnation(self) -> int:
        """Which of the logs of this name it is."""
        ...


class PartitionHolding(Protocol):
    """Who may write a partition."""

    @property
    def epoch(self) -> int:
        """Fencing token of the last claim."""
        ...

    @property
    def moved(self) -> bool:
        """Whether that was an operator, who moved the position."""
        ...


class Claims(Protocol):
    """What is needed of a ledger to own partitions. Each raises Retryable."""

    def claim(
        self, assigned: Assigned, *, latest: bool, waited: bool = False
    ) -> PartitionClaim | StartPosition:
        """Claim a partition and say where to read on; a bare StartPosition means that it must not be read."""
        ...

    def first_look(self, ends: Mapping[TopicPartition, int]) -> None:
        """Remember what the topics held when the ledger was used first."""
        ...

    def holdings(self) -> Mapping[TopicPartition, PartitionHolding]:
        """Who may write each partition that was ever claimed."""
        ...


class LedgerPort(Claims, Protocol):
    """What the engine needs of a ledger."""

    def record(self, transaction: Transaction) -> None:
        """Write a transaction, at most once. Raises Fenced or Retryable."""
        ...
