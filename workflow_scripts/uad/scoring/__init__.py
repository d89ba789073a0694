"""From reconstructions and maps to scores."""
