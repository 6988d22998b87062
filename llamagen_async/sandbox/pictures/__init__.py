"""Pictures of the sandbox: panels drawn from the words of a prompt."""
