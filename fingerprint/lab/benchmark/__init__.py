"""Evaluation of recognition: degraded queries, outcomes, metrics, report."""
