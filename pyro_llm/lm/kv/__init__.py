"""The key-value cache made for particles.

`slots` are the buffers of keys and values and `states` what recurrent layers remember; `layers` make a cache of
transformers out of them. `prompts` hold a prompt once for all rows; `rows` fork, reorder and repack. `attention`
attends to a shared prompt once, `interface` brings it into the model, `transformer` runs the model over rows.
"""
