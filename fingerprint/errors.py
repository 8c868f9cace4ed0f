"""The package's own errors and warnings: what is wrong, with which file, what to do. One line."""


class FingerprintError(Exception):
    """Base of every error that a user can cause; the command line shows it as one line."""


class AudioError(FingerprintError):
    """A recording cannot be read, or holds nothing to recognise."""


class ConfigError(FingerprintError):
    """A configuration file has an unknown key, a wrong type or an impossible value."""


class ModelError(FingerprintError):
    """A checkpoint is missing, damaged or of another format version."""


class LibraryError(FingerprintError):
    """A library is missing, damaged, locked, of another format version or of another model."""


class CorpusError(FingerprintError):
    """The training corpus is missing or incomplete."""


class CalibrationWarning(UserWarning):
    """A model was calibrated on other features than this version's; its confidences are rough."""
