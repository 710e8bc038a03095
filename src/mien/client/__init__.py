"""A small typed client of the service: the standard library only, `Faces` out."""
