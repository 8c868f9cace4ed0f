"""The model as an ONNX file, in 32-bit floats or in int8."""
