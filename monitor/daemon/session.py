"""An engine on a throw-away ledger, as `scan`, `replay` and the benchmarks run it."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from monitor.clock import Clock
from monitor.config import Config, DeliverConfig, LedgerConfig
from monitor.daemon.build import build_engine, tune_gc
from monitor.detect import specs
from monitor.detect.pool import Pool
from monitor.engine import Engine
from monitor.ledger.store import Ledger
from monitor.ports import Detectors, Observer, Observers, Source
from monitor.privacy.vault import Vault
from monitor.rules import RuleBook, default_paths
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer import TelemetryObserver

NO_RECEIVER: Final = DeliverConfig(log=False, feedback_topic="")
NO_SAMPLES: Final = LedgerConfig(sample_ratio=0.0)


class Session(NamedTuple):
    """A running session: the caller turns `engine`; `pool` has loaded its models."""

    engine: Engine
    pool: Detectors


@contextmanager
def session(
    config: Config,
    source: Source,
    clock: Clock,
    observer: Observer,
    *,
    deliver: DeliverConfig = NO_RECEIVER,
    ledger: LedgerConfig = NO_SAMPLES,
    rules: Sequence[Path] = (),
    vault: Vault | None = None,
    load_shedding: bool = False,
) -> Iterator[Session]:
    """Run the engine of a configuration on `source`, with a ledger that is deleted afterwards.

    Nothing is delivered; `deliver` and `ledger` only say what is written. `rules` replaces the configured
    ones, `vault` a key of the session's own, which makes other pseudonyms. With `load_shedding`, detectors
    do less while traces queue up, as in the daemon; else the input waits. Raises ConfigError for rules,
    options or detectors that cannot be used.
    """
    rule_book = RuleBook(rules or config.rules.paths or default_paths(), clock)
    with tempfile.TemporaryDirectory(prefix="riskmon-") as scratch:
        update = {"data_dir": Path(scratch), "ledger": ledger, "deliver": deliver}
        config = config.model_copy(update=update)
        vault = vault or Vault.fresh()
        store = Ledger.open(config.ledger_url(), vault, clock, config.name())
        metrics = Metrics(config.telemetry, clock=clock)
        telemetry = TelemetryObserver(metrics, clock, structlog.get_logger(__name__))
        with closing(store), closing(Pool(specs(config), config.pool, clock)) as pool:
            engine = build_engine(
                config,
                clock=clock,
                source=source,
                pool=pool,
                rules=rule_book,
                ledger=store,
                vault=vault,
                observer=Observers(telemetry, observer),
                load_shedding=load_shedding,
            )
            tune_gc()
            pool.start()
            yield Session(engine, pool)
