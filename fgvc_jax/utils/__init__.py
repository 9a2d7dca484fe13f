"""What every room may use: errors, options, text, paths, the machine, its devices and processes."""
