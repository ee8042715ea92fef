"""The demonstration: an embedded broker, made-up traffic, and a live view of the daemon at work."""
