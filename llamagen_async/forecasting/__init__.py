"""Forecasts of how long generations take, and of when a status check is worth its slot."""
