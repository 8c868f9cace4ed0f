"""From files to clips: finding recordings, decoding them in confined processes, reading tags."""
