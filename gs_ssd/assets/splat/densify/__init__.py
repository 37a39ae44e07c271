"""Growing and pruning the splats while they are optimized."""
