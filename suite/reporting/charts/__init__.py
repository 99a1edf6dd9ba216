"""Charts as data: one module per kind of chart, and what they share."""
