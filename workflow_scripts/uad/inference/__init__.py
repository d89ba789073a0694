"""From a trained network to reconstructions and maps."""
