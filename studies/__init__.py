"""The project's own studies: configurations, stored results, and what makes the pages in `docs/` from them."""
