"""Running a plan: worker processes, the sweep that drives them, budgets and progress."""
