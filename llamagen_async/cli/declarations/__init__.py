"""What can be typed: the arguments, options and help of each command. Loads nothing but click."""
