"""OTLP in: a bounded body, decoded, recorded, and only then acknowledged."""
