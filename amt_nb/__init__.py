"""A book that runs: music transcription with almost no labels, and structure-aware alignment."""
__version__ = "0.1.0"
