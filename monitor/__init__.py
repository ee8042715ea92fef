"""riskmon: a real-time model-risk monitor for LLM applications.

Importing this package is cheap: no torch, spacy, kafka or presidio is loaded (a test holds it so).
"""

__version__ = "0.1.0"
