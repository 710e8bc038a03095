"""A film as an index: built once, then asked in milliseconds."""
