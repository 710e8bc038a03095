"""Building data sets."""
