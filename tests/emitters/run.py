"""Runs emitters for real and records what they send (`make emitters`).

    python tests/emitters/run.py [--only NAME ...] [--replay] [--json]

Each driver talks to a fake of the models' APIs and exports to a sink, both on this machine. A recording
replaces the one in `tests/data/emitters`. Exits 1 where a driver failed, or a text was sent and not read.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from emitter_catalogue import EMITTERS, Emitter
from environments import ENVIRONMENTS, made
from recordings import FOLDER, Recording, bodies_of, load, read
from servers import Servers, servers

HERE: Final = Path(__file__).resolve().parent
DEADLINE: Final = 180.0
"""Seconds for one driver."""


def recorded(emitter: Emitter, python: Path | None = None) -> Recording:
    """Run an emitter and return what it sent; raises CalledProcessError with the driver's output.

    `python` runs it with packages that are installed already, instead of its environment.
    """
    program, place = _program(emitter, python)
    with servers() as served, tempfile.TemporaryDirectory() as home:
        environ = _environ(served, home) | dict(emitter.environ)
        done = subprocess.run(
            [*program, *emitter.command[1:]],
            cwd=place or home,
            env=environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, program, done.stdout, done.stderr)
        return Recording(emitter.name, emitter.version, len(served.called), tuple(bodies_of(served.sent)))


def _program(emitter: Emitter, python: Path | None) -> tuple[list[str], Path | None]:
    """Return what is executed, and where; Node finds packages from a script's folder, so it lies there."""
    driver = HERE / "drivers" / emitter.command[0]
    if not ENVIRONMENTS[emitter.environment].node:
        return [str(python or made(emitter.environment) / "bin" / "python"), str(driver)], None
    folder = made(emitter.environment)
    for script in driver.parent.glob("*.mjs"):
        (folder / script.name).write_bytes(script.read_bytes())
    return ["node", str(folder / driver.name)], folder


def _environ(served: Servers, home: str) -> dict[str, str]:
    """Return the variables of a driver: nothing of ours but the search path, and nothing leads outside."""
    models, sink = served.models, served.sink
    outside = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    keys = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GROQ_API_KEY")
    return {
        **outside,
        **dict.fromkeys(keys, "none"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PATH": os.environ["PATH"],
        "HOME": home,
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MODELS": models,
        "SINK": sink,
        "SINK_GRPC": served.grpc,
        "SCENARIO": json.dumps(_scenario()),
        "OPENAI_BASE_URL": f"{models}/v1",
        "OPENAI_API_BASE": f"{models}/v1",
        "ANTHROPIC_BASE_URL": models,
        "GOOGLE_GEMINI_BASE_URL": models,
        "OTEL_SERVICE_NAME": "support-bot",
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }


def _scenario() -> dict[str, str]:
    """Return the texts of the scenario, for drivers in another language."""
    import scenario

    return {
        name: value for name, value in vars(scenario).items() if name.isupper() and isinstance(value, str)
    }


def row(emitter: Emitter, recording: Recording) -> dict[str, Any]:
    """Return what of an emitter's recording was read."""
    traces = recording.traces()
    sent, seen = recording.sent(), read(traces)
    return {
        "emitter": emitter.name,
        "package": emitter.package,
        "version": recording.version,
        "calls": recording.calls,
        "exchanges": len(traces),
        "read": [part for part in emitter.shows if part in seen],
        "not_read": sorted(sent - seen),
        "not_listed": sorted(seen - set(emitter.shows)),
        "blind": sorted({f"{side}:{reason}" for trace in traces for side, reason in trace.blind()}),
        "bytes": len(recording.dump()),
    }


def main(say: Callable[[str], None] = print) -> int:
    """Run what the command line names."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", action="append", metavar="NAME", help="an emitter; may be repeated")
    asked.add_argument(
        "--replay", action="store_true", help="read the recordings that are there; run nothing"
    )
    asked.add_argument("--json", action="store_true", help="a line of JSON per emitter")
    options = asked.parse_args()
    unknown = set(options.only or ()) - {emitter.name for emitter in EMITTERS}
    if unknown:
        asked.error(f"no such emitter: {', '.join(sorted(unknown))}")
    failed = 0
    for emitter in EMITTERS:
        if options.only and emitter.name not in options.only:
            continue
        try:
            recording = load(emitter.name) if options.replay or emitter.golden else recorded(emitter)
        except (subprocess.SubprocessError, OSError) as error:
            failed += 1
            say(f"{emitter.name}: {error}\n{str(getattr(error, 'stderr', '') or '')[-3000:]}")
            continue
        if not (options.replay or emitter.golden):
            (FOLDER / f"{emitter.name}.json").write_text(recording.dump(), encoding="utf-8")
        found = row(emitter, recording)
        failed += bool(set(found["not_read"]) - set(emitter.unread))
        say(json.dumps(found) if options.json else _line(found))
    return 1 if failed else 0


def _line(found: dict[str, Any]) -> str:
    parts = [
        f"{found['emitter']:30}{found['version']:9}",
        f"calls {found['calls']}, exchanges {found['exchanges']}",
    ]
    parts.append("read: " + (", ".join(found["read"]) or "nothing"))
    parts += [
        f"{name}: {', '.join(found[name])}" for name in ("not_read", "not_listed", "blind") if found[name]
    ]
    return "; ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
