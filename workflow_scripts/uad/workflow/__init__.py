"""What serves Snakemake: plans, settings on disk, provenance, shared data."""
