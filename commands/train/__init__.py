"""The subcommand `visionmark train`: a training run on labelled images, in one process or several."""
