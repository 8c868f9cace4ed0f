"""How often recognition is right: degraded queries, outcomes, report."""
