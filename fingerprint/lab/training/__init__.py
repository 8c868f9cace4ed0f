"""Degrade clips, mine triplets, train the embedder."""
