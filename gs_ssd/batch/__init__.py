"""Many prompts on whatever there is: a loop here, one machine's cores, or a Ray cluster."""
