"""Real recordings, from loudspeakers through microphones: sets of them, made and measured."""
