"""What is optimized: the `Asset` protocol, and one room for each representation."""
