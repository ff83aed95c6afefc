"""The paper's study at full size, and its published figures to set results beside."""
