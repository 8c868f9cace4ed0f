"""Deliver the outbox's messages to a webhook: signed, in order, with exponential backoff.

Follows https://www.standardwebhooks.com: `webhook-id` is the same in all attempts, so that a
receiver can detect repeated messages; `webhook-signature` is an HMAC of id, time and body.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import sqlite3
import time
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from fingerprint.audio.files import without_password
from fingerprint.serving.journal import MAX_BACKOFF, Journal, Message

TIMEOUT = 10.0  # s
MAX_ATTEMPTS = 83  # three days of backoff; counted, since clocks may be wrong. Then it is dropped.
SECRET_PREFIX = "whsec_"  # noqa: S105 - of Standard Webhooks
OUTBOX_RETRY = 10.0  # s until an outbox that cannot be read or written is tried again
log = logging.getLogger("fingerprint.webhooks")


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_about: object) -> None:
        return None


async def deliver(journal: Journal, url: str, secret: str) -> None:
    """Deliver messages as they become due, until cancelled."""
    delivered: set[str] = set()  # that could not be deleted from the outbox
    while True:
        journal.outbox_changed.clear()
        try:
            pause = await _deliver_due(journal, url, secret, delivered)
        except sqlite3.Error as error:
            log.error("the outbox of webhooks cannot be used: %s", error)
            pause = OUTBOX_RETRY
        try:
            await asyncio.wait_for(journal.outbox_changed.wait(), pause)
        except TimeoutError:
            continue


async def _deliver_due(journal: Journal, url: str, secret: str, delivered: set[str]) -> float:
    """Send the messages that are due; returns the seconds until the next one is due."""
    for message in journal.due(time.time()):
        if message.id in delivered or await asyncio.to_thread(_post, url, secret, message):
            delivered.add(message.id)
            journal.drop([message])
            delivered.discard(message.id)
        elif message.attempts + 1 >= MAX_ATTEMPTS:
            log.error("webhook %s is given up after %d attempts", message.id, MAX_ATTEMPTS)
            journal.drop([message])
        else:
            pause = min(MAX_BACKOFF, 2.0**message.attempts)
            journal.postpone(message, time.time() + pause)
    due = journal.next_due()
    return MAX_BACKOFF if due is None else min(max(0.05, due - time.time()), MAX_BACKOFF)


def signature(secret: str, message: str, when: int, body: str) -> str:
    """The value of the header `webhook-signature`."""
    signed = f"{message}.{when}.{body}".encode()
    digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def key_of(secret: str) -> bytes:
    """The key that a secret stands for: base64 after the prefix `whsec_`, else its own letters.

    Raises:
        ValueError: what follows the prefix is not base64.
    """
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    encoded = secret.removeprefix(SECRET_PREFIX)
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)


def _post(url: str, secret: str, message: Message) -> bool:
    """Send a message once; whether the receiver accepted it (status 2xx)."""
    now = int(time.time())
    parts = urlsplit(url)
    target = parts._replace(netloc=parts.netloc.rpartition("@")[2])  # without user and password
    request = Request(target.geturl(), message.body.encode(), method="POST")  # noqa: S310 - http or https, as `serve` checks
    request.add_header("Content-Type", "application/json")
    request.add_header("Webhook-Id", message.id)
    request.add_header("Webhook-Timestamp", str(now))
    request.add_header("Webhook-Signature", signature(secret, message.id, now, message.body))
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
    try:
        with build_opener(_NoRedirects).open(request, timeout=TIMEOUT) as answer:
            return 200 <= int(answer.status) < 300
    except HTTPError as error:
        why: object = error.code
    except OSError as error:
        why = getattr(error, "reason", error)
    except (HTTPException, ValueError) as error:  # the response is not HTTP
        why = error
    log.warning("webhook to %s: %s; trying again", without_password(url), why)
    return False
