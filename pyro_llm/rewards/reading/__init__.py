"""How reward models read texts: in batches of like lengths, and only what is new in a run where attention allows it."""
