"""What a judge is asked unless told otherwise, whether it is here or behind a server."""

RUBRIC = """Problem:
{problem}

Solution so far:
{solution}

Is every step of this solution correct? It may not be finished. Answer with one word, {options}."""
"""With `{problem}`, `{solution}`, and `{options}` where "Yes or No" belongs."""
