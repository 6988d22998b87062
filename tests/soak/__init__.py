"""Virtual days of a service that fails, and of the programs that use it."""
