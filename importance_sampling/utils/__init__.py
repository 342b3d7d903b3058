"""Small helpers that scripts written for the original library use."""
