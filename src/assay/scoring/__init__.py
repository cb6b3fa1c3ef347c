"""Scoring: a trained student applied to posts, one by one or a whole corpus."""
