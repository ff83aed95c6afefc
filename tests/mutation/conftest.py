"""The mutation check is a script of its own (`make mutation`), which plain pytest need not look into for doctests."""

collect_ignore = ["check.py", "mutants.py"]
