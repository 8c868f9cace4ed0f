"""`python -m fingerprint`."""

from fingerprint.cli import main

if __name__ == "__main__":
    main(prog_name="fingerprint")
