"""The rules by which posteriors are found ill, by what they concern."""
