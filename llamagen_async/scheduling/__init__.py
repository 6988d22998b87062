"""What is sent when a slot is free, and when a generation is looked at again."""
