"""Recordings of music as it came out of loudspeakers: sets of them, measured and made."""
