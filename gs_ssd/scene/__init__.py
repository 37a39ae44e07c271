"""Floor 1: cameras, viewpoints, the raw Gaussian parameters and their optimizers."""
