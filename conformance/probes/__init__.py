"""What the probe measures: one module per sort of convention."""
