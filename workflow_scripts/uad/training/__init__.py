"""From packed slices to a trained network."""
