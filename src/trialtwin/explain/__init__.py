"""Explanations of what a model says, as arrays: how much of an effect runs along which pathway."""
