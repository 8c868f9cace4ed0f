import importlib
import subprocess
import sys

import pytest

import fingerprint


def test_every_public_name_can_be_imported_from_the_package():
    for name in fingerprint.__all__:
        value = getattr(fingerprint, name)
        assert value.__name__ == name
        assert getattr(importlib.import_module(value.__module__), name) is value


def test_public_names_are_sorted_and_listed_by_dir():
    assert fingerprint.__all__ == sorted(fingerprint.__all__)
    assert {*fingerprint.__all__, "__version__"} <= set(dir(fingerprint))


def test_every_error_of_the_package_is_public_and_a_fingerprint_error():
    errors = importlib.import_module("fingerprint.errors")
    for name in vars(errors):
        if name.endswith("Error"):
            assert issubclass(getattr(fingerprint, name), fingerprint.FingerprintError)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Fingerprynt'"):
        fingerprint.Fingerprynt  # noqa: B018


def test_the_version_is_a_release_number():
    assert fingerprint.__version__[0].isdigit()


def test_importing_the_package_and_an_error_imports_nothing_heavy():
    code = (
        "import sys, fingerprint as fp; fp.FingerprintError; "
        "print(*{'torch', 'numpy', 'pydantic', 'soundfile', 'click'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
