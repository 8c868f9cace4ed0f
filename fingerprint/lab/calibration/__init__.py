"""Fit the confidence of answers, and prove it."""
