"""Reports for people, made from results and nothing else."""
