"""Floor 1: 2D diffusion priors. They know nothing of 3D and nothing of estimators."""
