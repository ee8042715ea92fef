"""Errors, classified by what the caller must do.

    Exception
    └── RiskmonError
        ├── Busy          hold the work and pause intake; nothing is wrong
        ├── Skipped       pass the record by and count it: it holds nothing to judge
        ├── BadTrace      dead-letter the record: the same bytes would fail again
        ├── Retryable     back off and try again: the world may change
        │   └── Damaged   report it as well: it stays broken until someone repairs it
        ├── Fenced        drop this partition's work: another daemon owns it now
        ├── NotFound      answer that it does not exist: the caller named it
        ├── Conflict      answer that what was asked for does not fit the state on record
        ├── Tampered      use none of it: it is not what riskmon wrote, or the key is another one
        └── ConfigError   exit 78 before anything starts; says field, value and remedy

Anything else is a bug and stops the process: the ledger makes a restart safe.
"""

# Exit codes of sysexits.h.
EX_DATAERR = 65
EX_TEMPFAIL = 75
EX_CONFIG = 78  # what Vector and systemd expect of a configuration error


class RiskmonError(Exception):
    """Base of every error that riskmon raises on purpose."""


class Busy(RiskmonError):  # noqa: N818 - named for what the caller does
    """The next stage is full. Hold the work, pause the source, keep polling."""


class Skipped(RiskmonError):  # noqa: N818 - see Busy
    """A record that is in order and holds nothing to judge. `reason` is one of a bounded set."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadTrace(RiskmonError):  # noqa: N818 - see Busy
    """A record that can never be judged. `reason` is one of a bounded set; `detail` holds no trace text."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Retryable(RiskmonError):  # noqa: N818 - see Busy
    """A failure that may pass: the caller backs off and repeats the same call.

    `cause`, where there is one, is a sentence of a bounded set, which may be shown to anyone.
    """

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


class Damaged(Retryable):
    """Stored data cannot be read any more. None of it is used until a backup is restored."""


class Fenced(RiskmonError):  # noqa: N818 - see Busy
    """Partitions of a transaction are owned by another daemon now; nothing of the transaction was written.

    `partitions` is the set of (topic, partition) whose work must be dropped.
    """

    def __init__(self, partitions: frozenset[tuple[str, int]]) -> None:
        super().__init__(f"{len(partitions)} partition(s) are owned by another daemon")
        self.partitions = partitions


class NotFound(RiskmonError):  # noqa: N818 - see Busy
    """The ledger holds no such thing. The message says how to list those that exist."""


class Conflict(RiskmonError):  # noqa: N818 - see Busy
    """The state on record does not allow what was asked for. Nothing was changed."""


class Tampered(RiskmonError):  # noqa: N818 - see Busy
    """Stored data is not what riskmon wrote, or was written under another key. None of it may be used."""


class ConfigError(RiskmonError):
    """The configuration, a rule file or a model cannot be used. The message names field, value and remedy."""


def exit_code(error: RiskmonError) -> int:
    """Return the code that a command exits with which an error ends."""
    if isinstance(error, Tampered | Damaged):
        return EX_DATAERR
    return EX_TEMPFAIL if isinstance(error, Retryable) else EX_CONFIG
