"""A small HTTP server for machines: bounded, with one deadline for a request, and its routes in a table."""
