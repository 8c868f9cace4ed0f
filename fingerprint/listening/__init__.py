"""Recognise what plays now: from a microphone, a network stream, or samples on a pipe."""

from fingerprint.listening.listener import Event, listen
from fingerprint.listening.sources import (
    PcmFormat,
    microphone,
    network,
    raw_samples,
    reconnecting,
)

__all__ = [
    "Event",
    "PcmFormat",
    "listen",
    "microphone",
    "network",
    "raw_samples",
    "reconnecting",
]
