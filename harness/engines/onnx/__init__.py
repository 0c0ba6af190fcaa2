"""Exporting a module to an ONNX file and quantising the file, for every engine and server that runs such files."""
