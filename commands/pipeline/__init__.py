"""The subcommand `visionmark pipeline`: compiles and runs the Kubeflow pipeline, and is what its tasks call."""
