"""Everything that plays in a long recording or a stream, and when."""

from fingerprint.scanning.scanner import Scanner, scan
from fingerprint.scanning.spans import Heard, Span

__all__ = ["Heard", "Scanner", "Span", "scan"]
