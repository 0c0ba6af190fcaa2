"""ImageNet-1k: its labels, and the forms in which its validation set is kept."""
