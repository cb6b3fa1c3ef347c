"""Raw layouts -> posts."""
