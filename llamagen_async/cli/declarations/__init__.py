"""Arguments, options and help of each command: all that can be typed. Loads nothing but click."""
