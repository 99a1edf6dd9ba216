"""Charts as data: one module a kind of chart, and what they share."""
