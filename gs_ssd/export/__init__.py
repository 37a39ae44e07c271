"""Splat files, videos and meshes."""
