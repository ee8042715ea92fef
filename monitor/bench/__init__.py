"""Measurements on this machine: the engine, the detectors, delivery, and what they cost."""
