"""Floor 3: splat files, videos and meshes."""
