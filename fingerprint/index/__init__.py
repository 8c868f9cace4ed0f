"""From vectors to nearest neighbours: Annoy, faiss IVF-PQ, Hamming scan, quantisation."""
