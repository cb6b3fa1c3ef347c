"""The web page: score a post, browse what a corpus says, compare two models."""
