"""From rendered latents to the score-distillation gradient."""
