"""Floor 2: growing and pruning the splats while they are optimized."""
