"""ONNX files, for every engine and server that runs one: exporting a module, quantising the file."""
