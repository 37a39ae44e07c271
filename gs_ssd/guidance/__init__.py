"""Floors 1-3: from rendered latents to the score-distillation gradient."""
