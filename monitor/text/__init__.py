"""Text measures that detectors share: pure, in linear time, with offsets that are Python string indices.

No pattern nests quantifiers over the same characters. English first; other languages keep their words and
numbers.
"""
