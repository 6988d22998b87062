"""A stand-in for the LlamaGen Comic API that enforces its limits: no key, no credits."""
