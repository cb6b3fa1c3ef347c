"""The teacher: rubric, client, answer store, and the labels table that is rebuilt from it."""
