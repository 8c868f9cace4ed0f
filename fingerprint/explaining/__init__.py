"""Why an answer is what it is: what was compared with what, as a page for people."""

from fingerprint.explaining.evidence import Explanation, explain
from fingerprint.explaining.page import write_page

__all__ = ["Explanation", "explain", "write_page"]
