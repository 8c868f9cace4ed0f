"""What the project costs: each module is a command that prints a table of ratios and times."""
