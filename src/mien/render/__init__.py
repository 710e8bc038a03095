"""To look at: what was found, drawn into pictures."""
