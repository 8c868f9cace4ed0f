"""Messages of the outbox, sent until they are taken: signed, in order, with ever longer pauses.

As https://www.standardwebhooks.com: `webhook-id` stays the same over all attempts, so that a
receiver can tell a repeated message; `webhook-signature` is an HMAC of id, time and body.
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
from fingerprint.serving.journal import LONGEST_PAUSE, Journal, Message

TIMEOUT = 10.0  # s
ATTEMPTS = 83  # after which a message is dropped: three days. Clocks may be wrong.
DISTURBED = 10.0  # s after which an outbox that cannot be read or written is tried again
log = logging.getLogger("fingerprint.webhooks")


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_about: object) -> None:
        return None


async def deliver(journal: Journal, url: str, secret: str) -> None:
    """Send what is in the outbox, and what comes into it, until cancelled."""
    while True:
        journal.news.clear()
        try:
            pause = await _delivered(journal, url, secret)
        except sqlite3.Error as error:
            log.error("the outbox of webhooks cannot be used: %s", error)
            pause = DISTURBED
        try:
            await asyncio.wait_for(journal.news.wait(), pause)
        except TimeoutError:
            continue


async def _delivered(journal: Journal, url: str, secret: str) -> float:
    """Make the calls that are due. Seconds until the next one is."""
    for message in journal.due(time.time()):
        if await asyncio.to_thread(_sent, url, secret, message):
            journal.drop([message])
        elif message.attempts + 1 >= ATTEMPTS:
            log.error("webhook %s is given up after %d attempts", message.id, ATTEMPTS)
            journal.drop([message])
        else:
            pause = min(LONGEST_PAUSE, 2.0**message.attempts)
            journal.postpone(message, time.time() + pause)
    due = journal.next_due()
    return LONGEST_PAUSE if due is None else min(max(0.05, due - time.time()), LONGEST_PAUSE)


def signature(secret: str, message: str, when: int, body: str) -> str:
    """What `webhook-signature` holds."""
    signed = f"{message}.{when}.{body}".encode()
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _sent(url: str, secret: str, message: Message) -> bool:
    """Whether the receiver has taken a message."""
    now = int(time.time())
    parts = urlsplit(url)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    request = Request(place.geturl(), message.body.encode(), method="POST")  # noqa: S310 - checked at the start
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
    except (HTTPException, ValueError) as error:  # it answers with something that is no HTTP
        why = error
    log.warning("webhook to %s: %s; trying again", without_password(url), why)
    return False
