"""Where an endpoint is, and the key that it wants: checked before anything is sent or stored."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit

from matsearch.errors import BackendAuthError, ConfigError


def check_url(url: str) -> str:
    """The host of an endpoint's URL.

    Raises:
        ConfigError: Not an http URL, or one that holds a password or a query.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        # The options are written into the run folder.
        raise ConfigError("[llm] options.base_url must not hold a user name or password; use options.api_key_env")
    if parts.query or parts.fragment:
        raise ConfigError("[llm] options.base_url must end before any '?' or '#'; a key goes into options.api_key_env")
    try:
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        valid = False
    if not valid or parts.hostname is None:
        raise ConfigError(f"[llm] options.base_url must be like 'http://localhost:8000/v1', got {url!r}")
    return parts.hostname


def find_key(variable: str, host: str) -> str | None:
    """The key in an environment variable; None for an endpoint nearby that needs none.

    Raises:
        ConfigError: The name is none that a variable can have: most likely the key itself, which is not repeated.
        BackendAuthError: No key, or one that no HTTP header can carry.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        raise ConfigError(
            "[llm] options.api_key_env must be the name of an environment variable, such as OPENAI_API_KEY, not the "
            "key itself: put the key into that variable"
        )
    key = os.environ.get(variable, "").strip()
    if not key:
        if is_nearby(host):
            return None
        raise BackendAuthError(
            f"no API key for {host}: set the environment variable {variable}, "
            "or name another in [llm] options.api_key_env"
        )
    if not (key.isascii() and key.isprintable()):
        raise BackendAuthError(f"the API key in {variable} holds characters that no key has; copy it again")
    return key


def is_loopback(host: str) -> bool:
    """Whether the host is this machine."""
    address = _address(host)
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def is_nearby(host: str) -> bool:
    """Whether the host is this machine or on a private network."""
    address = _address(host)
    if address:
        return address.is_loopback or address.is_private or address.is_link_local
    return is_loopback(host) or host.endswith(".local") or "." not in host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:  # a name
        return None
