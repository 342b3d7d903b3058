"""One module per command, each with `main(options)`, which returns the exit status."""
