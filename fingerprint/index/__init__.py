"""Nearest neighbours: Annoy, faiss IVF-PQ, exhaustive Hamming search, quantisation, landmarks."""
