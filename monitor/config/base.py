"""Base of the configuration's sections."""

import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator
from typing_extensions import override

from monitor.events import checked_topic

Positive = Annotated[float, Field(gt=0)]

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


def _server(name: str) -> str:
    if "@" in name:
        raise ValueError("user info is not supported here; use kafka.sasl_username and kafka.sasl_password")
    return name


Topic = Annotated[str, AfterValidator(checked_topic)]

Server = Annotated[str, AfterValidator(_server)]

SecretSetting = SecretStr | int | float | bool

OptionalTopic = Annotated[str, AfterValidator(lambda name: name and checked_topic(name))]


_URL: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://([^/?#]*)([^?#]*)(.*)", re.DOTALL)


class SecretUrl(SecretStr):
    """A URL that shows itself without user info, query and fragment; of http and https also without path.

    Webhooks have their token in the path. The whole text is `get_secret_value()`.
    """

    @override
    def _display(self) -> str:
        url = self.get_secret_value()
        parts = _URL.fullmatch(url)
        if parts is None or is_ambiguous(url):
            return url and "***"
        scheme, authority, path, rest = parts.groups()
        user, at, host = authority.rpartition("@")
        if _is_http(scheme) and path.strip("/"):
            path, rest = "/", rest or path
        return f"{scheme}://{(user or at) and '***@'}{host}{path}{rest and '***'}"


def is_ambiguous(url: str) -> bool:
    """Return whether a part of a password may be taken for a host, port or path: it has `@/?#`."""
    parts = _URL.fullmatch(url)
    if parts is None or not parts[2]:  # SQLite's name a file, and no host
        return False
    scheme, authority, path, rest = parts.groups()
    if "@" not in path + rest:
        return authority.count("@") > 1
    port = authority.partition(":")[2]  # a path may hold an @ behind a host, not behind half a password
    return not _is_http(scheme) or "@" in authority or not (port.isdecimal() or ":" not in authority)


def _is_http(scheme: str) -> bool:
    return scheme.lower() in {"http", "https"}


def _unambiguous(url: SecretUrl) -> SecretUrl:
    if is_ambiguous(url.get_secret_value()):
        raise ValueError("percent-encode @ : / ? and # in its user name, password and query")
    return url


Address = Annotated[SecretUrl, AfterValidator(_unambiguous)]
"""A setting that is a URL, which may hold a user name, a password or a token."""


LEAST_TOKEN_CHARS: Final = 16
"""Of a token that opens a port: 16 characters of hex are 64 bits, too many to guess over a network."""


def _not_short(token: SecretStr | None) -> SecretStr | None:
    if token is not None and len(token) < LEAST_TOKEN_CHARS:
        raise ValueError(
            f"has {len(token)} characters; give {LEAST_TOKEN_CHARS} or more, as of `openssl rand -hex 32`, "
            "or leave the setting out"
        )
    return token


def _not_empty(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not secret:
        raise ValueError("is empty; give the secret, or leave the setting out")
    return secret


Token = Annotated[SecretStr | None, AfterValidator(_not_short)]
Secret = Annotated[SecretStr | None, AfterValidator(_not_empty)]


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors; values are frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @field_validator("*")
    @classmethod
    def _without_nul(cls, value: Any) -> Any:
        """No path, name or address may hold NUL, at which the system's calls end them or fail."""
        for part in value if isinstance(value, list) else [value]:
            text = part.get_secret_value() if isinstance(part, SecretStr) else part
            if isinstance(text, str | Path) and "\0" in str(text):
                raise ValueError("holds a NUL character; write it without")
        return value
