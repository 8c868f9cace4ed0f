"""Fit the confidence of answers, and measure its calibration."""
