"""From pictures and texts to vectors: encoders, frozen features and their cache."""
