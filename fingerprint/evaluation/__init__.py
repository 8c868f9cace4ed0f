"""How well recordings are recognised: query conditions, running them, the figures, the report."""
