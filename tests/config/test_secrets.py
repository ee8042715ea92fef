"""Secrets of a configuration: no command shows one, whatever state it finds."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from patience import eventually
from processes import free_port
from pydantic import BaseModel, SecretStr, ValidationError

from monitor.cli import COMMANDS, main
from monitor.config import Config, LedgerConfig, SecretUrl, WebhookConfig, load, settings
from monitor.config.base import is_ambiguous
from monitor.errors import ConfigError

CANARY: Final = "cAnArYsEcReT"
SECONDS: Final = 60.0


def secrets(model: type[BaseModel] = Config, path: str = "") -> Iterator[str]:
    """The dotted names of all settings that hold secrets."""
    for name, field in model.model_fields.items():
        text = str(field.annotation)
        if "Secret" in text:
            yield path + name
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from secrets(part, f"{path}{name}.")


def full(port: int) -> dict[str, Any]:
    """A configuration with a canary in each of them; nothing answers at `port` of loopback."""
    url = f"http://{CANARY}1:{CANARY}2@127.0.0.1:{port}/{CANARY}3?key={CANARY}4"
    return {
        "kafka": {
            "bootstrap_servers": [f"127.0.0.1:{port}"],
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "u",
            "sasl_password": CANARY,
            "ssl_password": CANARY,
            "client": {
                "proxy_url": f"http://{CANARY}:{CANARY}@127.0.0.1:{port}",
                "request_timeout_ms": 50_000,
            },
        },
        "receiver": {"enabled": True, "port": 0, "token": CANARY * 2},
        "http": {"port": 0, "review_token": CANARY * 2},
        "ledger": {"url": f"postgresql+psycopg://u:{CANARY}@127.0.0.1:{port}/d?application_name={CANARY}"},
        "deliver": {
            "alertmanager": {
                "url": f"http://127.0.0.1:{port}/{CANARY}?{CANARY}",
                "username": "u",
                "password": CANARY,
            },
            "webhooks": [
                {
                    "name": "ops",
                    "url": f"http://127.0.0.1:{port}/{CANARY}?{CANARY}",
                    "secret": CANARY,
                    "allow_private": True,
                },
                {
                    "name": "pager",
                    "url": f"https://example.invalid/{CANARY}",
                    "format": "pagerduty",
                    "routing_key": CANARY,
                },
            ],
        },
        "telemetry": {
            "otlp_endpoint": url,
            "otlp_metrics_seconds": 0.5,
            "evaluations_endpoint": url,
            "evaluations_headers": {"authorization": CANARY},
        },
    }


def variants(port: int) -> dict[str, dict[str, Any]]:
    """The same in states that fail in other places."""
    fine = full(port)
    fine["ledger"] = {}
    without = full(port)
    without["ledger"] = {}
    without["kafka"].pop("client")

    def with_ledger(url: str) -> dict[str, Any]:
        return {**full(port), "ledger": {"url": url}}

    return {
        "no database answers": full(port),
        "sqlite": fine,
        "no proxy": without,
        "unescaped at": with_ledger(f"postgresql://u:{CANARY}@{CANARY}@127.0.0.1:{port}/d"),
        "unescaped slash": with_ledger(f"postgresql://u:1/{CANARY}@127.0.0.1:{port}/d"),
        "unescaped question mark": with_ledger(f"postgresql://u:1?{CANARY}@127.0.0.1:{port}/d"),
        "no port": with_ledger(f"postgresql://u:{CANARY}@127.0.0.1:{CANARY}/d"),
        "no database": with_ledger(f"nosuch://u:{CANARY}@h/d"),
        "not a URL": with_ledger(f"u:{CANARY}@h"),
        "unknown option": with_ledger(
            f"postgresql://u:{CANARY}@127.0.0.1:{port}/d?sslrootcert=/none&x={CANARY}"
        ),
        "short token": {**full(port), "receiver": {"token": CANARY[:15]}},
        "user of a server": {**full(port), "kafka": {"bootstrap_servers": [f"u:{CANARY}@h:1"]}},
        "unreadable proxy": {**fine, "kafka": {**fine["kafka"], "client": {"proxy_url": CANARY}}},
        "unreadable webhook": {**fine, "deliver": {"webhooks": [{"url": f"gopher://{CANARY}:x@h/"}]}},
        "webhook with user": {**fine, "deliver": {"webhooks": [{"url": f"https://{CANARY}:x@h/"}]}},
        "unreadable telemetry": {**fine, "telemetry": {"evaluations_endpoint": f"{CANARY}://h:x"}},
        "unreadable port": {**fine, "telemetry": {"otlp_endpoint": f"http://h:{CANARY}/"}},
    }


def commands() -> Iterator[tuple[str, ...]]:
    """Every command that reads a configuration with arguments that it needs; not `run`, nor a benchmark."""
    rest: dict[str, tuple[str, ...]] = {
        "dlq show": ("1",),
        "dlq requeue": ("--all",),
        "positions move": ("t", "0", "5", "--reason", "r"),
        "replay": ("--from", "0", "--diff"),
        "scan": (os.devnull,),
        "decode": ("native", os.devnull),
        "traffic": ("--seconds", "1"),
    }
    for name in COMMANDS:
        found = import_module(f"monitor.cli.{name}").command
        nested = found.commands if isinstance(found, click.Group) else {"": found}
        for sub, command in nested.items():
            called = f"{name} {sub}".strip()
            options = {option for parameter in command.params for option in parameter.opts}
            if "--config" in options and called != "run" and name != "bench":
                yield (*called.split(), *rest.get(called, ()))
                if "--json" in options and called not in {
                    "replay",
                    "scan",
                    "decode",
                }:  # slow, or read no secret
                    yield (*called.split(), *rest.get(called, ()), "--json")


def folder_log(folder: Path) -> Path:
    """Where a command's output goes."""
    return folder / "output"


def written(folder: Path, config: dict[str, Any]) -> Path:
    """Write a configuration; its data are in the same folder."""
    folder.mkdir(exist_ok=True)
    path = folder / "riskmon.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(folder / "data"), **config}), encoding="utf-8")
    return path


def start(folder: Path, config: dict[str, Any], *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command on a configuration, in a process of its own."""
    path = written(folder, config)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RISKMON_")}
    with folder_log(folder).open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "monitor", *arguments, "--config", str(path)],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def test_all_settings_that_hold_secrets_are_tested() -> None:
    """A setting that is added must be added to the configuration below, too."""
    config = Config.model_validate(full(9))

    def value(path: str) -> Any:
        found: Any = config
        for part in path.split("."):
            found = getattr(found, part)
            if isinstance(found, list):
                found = next(item for item in found if getattr(item, path.rsplit(".", 1)[1]))
        return found

    names = list(secrets())
    assert len(names) >= 12
    for name in names:
        shown = value(name)
        assert shown, name
        assert CANARY not in f"{shown!r}{shown}", name
    assert CANARY not in repr(config)
    assert CANARY not in str(config)
    assert CANARY not in config.model_dump_json()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_no_command_shows_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever of the configuration is wrong or away: no output, log or traceback holds a canary."""
    for name in [name for name in os.environ if name.startswith("RISKMON_")]:
        monkeypatch.delenv(name)
    for number, (state, config) in enumerate(variants(free_port()).items()):
        chosen = list(commands()) if state == "sqlite" else [("check", "--json"), ("audit", "verify")]
        for arguments in chosen:
            path = written(tmp_path / str(number), config)
            monkeypatch.setattr(sys, "argv", ["riskmon", *arguments, "--config", str(path)])
            shown = ""
            try:
                main()
            except SystemExit:
                pass
            except Exception:  # noqa: BLE001 - the interpreter would print it
                shown = traceback.format_exc()
            shown += "".join(capfd.readouterr())
            assert CANARY not in shown, (state, arguments, shown)
            assert "Traceback" not in shown, (state, arguments, shown)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["no database answers", "no proxy", "unreadable port"])
def test_no_log_holds_a_secret(tmp_path: Path, state: str) -> None:
    """A daemon that reaches nothing logs much, at the level debug, and no secret."""
    config = variants(free_port())[state]
    config["telemetry"]["log_level"] = "debug"
    with start(tmp_path, config, "run") as process:
        log = folder_log(tmp_path)

        def told() -> bool:
            return any(event in log.read_bytes() for event in (b'"started"', b'"ledger_unavailable"'))

        eventually(lambda: process.poll() is not None or told(), "a start, or what it waits for")
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
        output = log.read_text()
    assert output
    assert CANARY not in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("nonsense", "***"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
        ("sqlite://", "sqlite://"),
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgresql://u:S@h:5/d?password=S", "postgresql://***@h:5/d***"),
        ("postgresql://u:S@S@h/d", "***"),
        ("postgresql://u:S/S@h/d", "***"),
        ("https://hooks.example.com/services/S", "https://hooks.example.com/***"),
        ("https://h/@S", "https://h/***"),
        ("https://S@h:3", "https://***@h:3"),
        ("https://u:S/S@h", "***"),
        ("http://h:9/?S", "http://h:9/***"),
        ("http://h:9/", "http://h:9/"),
    ],
)
def test_a_url_shows_where_and_not_with_what(url: str, shown: str) -> None:
    """Host, port and database tell an operator which one is meant."""
    assert str(SecretUrl(url)) == shown


@given(st.text(min_size=1).filter(lambda text: "://" not in text), st.sampled_from(["postgresql", "https"]))
def test_a_password_never_shows(tail: str, scheme: str) -> None:
    """Whatever characters follow: the URL is refused, or the password is hidden."""
    url = f"{scheme}://user:{CANARY}{tail}@host/path"
    shown = SecretUrl(url)
    assert CANARY not in f"{shown}{shown!r}"
    if set(tail) & set("@/?#"):
        assert is_ambiguous(url)
        for section in (LedgerConfig, WebhookConfig):
            with pytest.raises(ValidationError) as refused:
                section.model_validate({"url": url})
            assert CANARY not in str(refused.value)


@pytest.mark.parametrize("setting", ["receiver.token", "http.review_token"])
@pytest.mark.parametrize("token", ["", "x", "x" * 15])
def test_a_token_that_can_be_guessed_is_refused(setting: str, token: str) -> None:
    """An empty one would leave the port open; the message names the setting, and how to make a token."""
    variable = next(variable for path, variable, _, _ in settings() if path == setting)
    with pytest.raises(ConfigError, match=rf"{setting}: .*has {len(token)} characters; .*openssl rand"):
        load(None, {variable: token})
    load(None, {variable: "x" * 16})


@pytest.mark.parametrize("name", ["secret", "routing_key"])
def test_an_empty_key_signs_nothing(name: str) -> None:
    """A webhook's key that is empty is a variable that was not set."""
    with pytest.raises(ValidationError, match="is empty"):
        WebhookConfig.model_validate({"url": "https://h", "format": "pagerduty", name: SecretStr("")})
