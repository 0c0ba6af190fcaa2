"""What the engines of torch share: the runner, and the reader of what torch.profiler tells."""
