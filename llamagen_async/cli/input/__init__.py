"""Stories as a user gives them: a file, stdin, or a journal to go on with."""
