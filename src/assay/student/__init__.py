"""Students: encoders, fusion, heads and how they learn. The only package that imports torch (with scoring)."""
