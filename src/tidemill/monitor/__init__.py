"""What is watched while a model serves, and what starts the next cycle."""
