"""What the baselines of recurrences with a scalar decay share: retention, Lightning Attention-2, SSD."""
