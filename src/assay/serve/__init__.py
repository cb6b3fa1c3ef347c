"""The trained student as a service: one Predictor behind an HTTP API."""
