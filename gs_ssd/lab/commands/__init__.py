"""Subcommands of the lab: bench and reproduce."""
