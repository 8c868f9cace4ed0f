"""Put ONNX Runtime for browsers beside the page, so that it computes fingerprints itself.

python scripts/onnxruntime_web.py

The same as `python -m fingerprint.lab onnxruntime-web`.
"""

from fingerprint.lab.__main__ import main

if __name__ == "__main__":
    import sys

    main(["onnxruntime-web", *sys.argv[1:]], prog_name="onnxruntime_web.py")
