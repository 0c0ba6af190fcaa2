"""The subcommand `visionmark manifests`, which refuses Kubernetes manifests with which a number is wrong or lost."""
