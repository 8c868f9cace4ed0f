"""Training: clean and noisy pairs, mining, the loop. Needs the extra `fingerprint[train]`."""
