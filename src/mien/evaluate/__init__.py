"""How good a model is: metrics, and the measurement of an expression model on labelled faces."""
