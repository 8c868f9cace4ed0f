"""Scan long recordings and streams: which tracks play, from when to when."""

from fingerprint.scanning.scanner import Scanner, scan
from fingerprint.scanning.spans import Heard, Span

__all__ = ["Heard", "Scanner", "Span", "scan"]
