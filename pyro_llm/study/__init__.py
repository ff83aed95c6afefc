"""Comparing algorithms at equal budget: problems, algorithms, budgets and seeds, with intervals."""
