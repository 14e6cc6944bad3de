"""What figures are worth: pure statistics over arrays, no agents and no files."""
