"""Files to clips: decoding, resampling, walking folders, reading tags."""
