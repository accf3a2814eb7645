"""Replays of stored event logs: a clock, stretches of decoded events, and a cache that all who watch share."""
