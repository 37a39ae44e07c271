"""Floor 2: Gaussians and cameras in, pictures out."""
