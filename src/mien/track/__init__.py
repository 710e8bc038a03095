"""One face over time: tracks, and expressions that hold steady."""
