"""How obstore, the extra `s3`, is reached: its settings, the process that may use it, and what its errors mean."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import Any

from corpus.errors import MotionloomError

PATIENCE_S = 180.0
"""How long a request is tried again when the network or the server fails [s]."""
FIRST_PATIENCE_S = 5.0
"""The same for the first request of all: a wrong address should be told soon [s]."""
REQUEST_S = 600.0
"""How long one request may take, its body included [s]."""
CONNECT_S = 10.0
"""How long to wait for a connection [s]."""


def obstore() -> Any:
    """The module; raises where it is not installed, or this process cannot use it."""
    global _process
    try:
        import obstore
        import obstore.store
    except ImportError:
        raise MotionloomError("Object storage needs obstore: install the extra `s3`, motionloom[s3].") from None
    if forked():
        raise MotionloomError("Object storage is out of reach after a fork: start this process by spawn.")
    _process = os.getpid()
    return obstore


def forked() -> bool:
    """Was this process forked from one that had used obstore? Its threads do not survive that: a request would hang."""
    return _process not in (0, os.getpid())


_process = 0
"""The process in which obstore was first used."""


def open_store(url: str, *, first: bool = False) -> Any:
    """obstore's store for a URL; credentials, region and endpoint as in the environment. `first`: soon out of patience."""
    module = obstore()
    options: dict[str, Any] = {"mkdir": True} if url.startswith("file:") else _network_options(first)
    if url.startswith(("s3:", "s3a:")) and endpoint():
        options["endpoint"] = endpoint()
    try:
        return module.store.from_url(url, **options)
    except (module.exceptions.BaseError, ValueError) as error:
        raise MotionloomError(f"{url}: {in_a_line(str(error))}") from None


def endpoint() -> str:
    """The address of another object store than Amazon's, from the environment; empty where none is named."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def may_pass(text: str) -> bool:
    """Is this the error of a connection that broke, where another attempt may do better? What a server refused, for as
    long as obstore asked, is not."""
    return "HTTP error" in text and not _status(text) and "builder error" not in text


def is_busy(text: str) -> bool:
    """Is this a refusal for now: too many requests, or trouble of the server's own?"""
    return _status(text) == "429" or _status(text).startswith("5")


def in_a_line(text: str) -> str:
    """An error of obstore's as a line that says what a person can do."""
    code = found[1] if (found := re.search(r"<Code>(\w+)</Code>", text)) else ""
    status, where = _status(text), endpoint()
    if code == "NoSuchBucket":
        return "there is no such bucket."
    if status in ("401", "403"):
        told = f" ({code})" if code else ""
        return f"permission denied{told}: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do here."
    if "Unable to recognise URL" in text:
        return "no object storage that obstore knows; expected something like s3://bucket/folder."
    if status:
        return f"the server refuses ({' '.join(filter(None, (status, code)))}); run the same command later."
    if "/latest/api/token" in text or "/latest/meta-data" in text:
        return "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    if "HTTP error" in text:
        told = f" to {where}" if where else ""
        return f"no connection{told}: check the network and AWS_ENDPOINT_URL, then run the same command again."
    return (text.strip().splitlines() or ["unknown error"])[0][:300]


def _status(text: str) -> str:
    """The HTTP status of a server's refusal; empty where there was no answer."""
    return found[1] if (found := re.search(r"status code: (\d{3})", text)) else ""


def _network_options(first: bool) -> dict[str, Any]:
    retries, patience = (3, FIRST_PATIENCE_S) if first else (10, PATIENCE_S)
    client: dict[str, Any] = {
        "timeout": timedelta(seconds=REQUEST_S),
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "allow_http": endpoint().startswith("http://"),
    }
    return {
        "client_options": client,
        "retry_config": {"max_retries": retries, "retry_timeout": timedelta(seconds=patience)},
    }
