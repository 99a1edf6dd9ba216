"""Predicted times against published ones: `subquad validate`. See docs/predicted-time.md and results/published/."""
