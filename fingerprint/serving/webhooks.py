"""Messages of the outbox, sent until they are taken: signed, in order, with ever longer pauses.

As https://www.standardwebhooks.com: `webhook-id` stays the same over all attempts, so that a
receiver can tell a repeated message; `webhook-signature` is an HMAC of id, time and body.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import time
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from fingerprint.audio.files import without_password
from fingerprint.serving.journal import Journal, Message

TIMEOUT = 10.0  # s
LONGEST_PAUSE = 3600.0  # s between two attempts
GIVEN_UP = 3 * 86_400.0  # s after which a message is dropped
log = logging.getLogger("fingerprint.webhooks")


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_about: object) -> None:
        return None


async def deliver(journal: Journal, url: str, secret: str) -> None:
    """Send what is in the outbox, and what comes into it, until cancelled."""
    while True:
        journal.news.clear()
        for message in journal.due(time.time()):
            taken = await asyncio.to_thread(_sent, url, secret, message)
            now = time.time()
            if taken or now - message.written > GIVEN_UP:
                if not taken:
                    log.error(
                        "webhook %s is given up after %d attempts", message.id, message.attempts
                    )
                journal.drop([message])
            else:
                journal.postpone(message, now + min(LONGEST_PAUSE, 2.0**message.attempts))
        due = journal.next_due()
        pause = LONGEST_PAUSE if due is None else max(0.05, due - time.time())
        try:
            await asyncio.wait_for(journal.news.wait(), min(pause, LONGEST_PAUSE))
        except TimeoutError:
            continue


def signature(secret: str, message: str, when: int, body: str) -> str:
    """What `webhook-signature` holds."""
    signed = f"{message}.{when}.{body}".encode()
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _sent(url: str, secret: str, message: Message) -> bool:
    """Whether the receiver has taken a message."""
    now = int(time.time())
    request = Request(url, message.body.encode(), method="POST")  # noqa: S310 - checked at the start
    request.add_header("Content-Type", "application/json")
    request.add_header("Webhook-Id", message.id)
    request.add_header("Webhook-Timestamp", str(now))
    request.add_header("Webhook-Signature", signature(secret, message.id, now, message.body))
    try:
        with build_opener(_NoRedirects).open(request, timeout=TIMEOUT) as answer:
            return 200 <= int(answer.status) < 300
    except HTTPError as error:
        why: object = error.code
    except OSError as error:
        why = getattr(error, "reason", error)
    log.warning("webhook to %s: %s; trying again", without_password(url), why)
    return False
