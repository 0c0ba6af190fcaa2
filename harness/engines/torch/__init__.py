"""The code that all engines of torch share: the runner and the reader of torch.profiler's traces."""
