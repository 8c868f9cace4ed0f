"""Explain an answer: the evidence behind it, as arrays, a picture and a page."""

from fingerprint.explaining.evidence import Explanation, explain
from fingerprint.explaining.page import picture, write_page

__all__ = ["Explanation", "explain", "picture", "write_page"]
