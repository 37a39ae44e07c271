"""Floor 4: the paper's experiments, one module a figure."""
