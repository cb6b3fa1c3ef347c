"""Measures: tables and arrays in, findings out. Imports nothing else of assay but settings and errors; no torch."""
