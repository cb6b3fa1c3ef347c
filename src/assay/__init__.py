"""assay measures what image-and-text posts say: teacher, student, findings with intervals."""

__version__ = "0.1.0"
