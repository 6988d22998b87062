"""An async client for the LlamaGen Comic API."""
