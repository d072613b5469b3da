"""Deposits that strangers put down to be heard: given back when they are answered, kept when they are spam."""
