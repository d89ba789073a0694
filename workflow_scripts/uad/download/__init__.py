"""Acquisition: where raw data and weights come from, downloads, credentials, and the plan of what is missing."""
