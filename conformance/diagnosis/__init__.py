"""What numbers alone say about the use of a loss; `lossaudit.diagnose` is its front."""
