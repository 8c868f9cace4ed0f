"""The model: front-ends, the conv embedder, its checkpoint and the shipped weights."""
